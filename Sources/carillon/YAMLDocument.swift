import Yams

/// A YAML text with all that is wrong with its form, not only the first: the parser stops at a key that stands twice.
struct YAMLDocument {
    /// Nil when there is no tree to look at.
    private(set) var root: Node?
    private(set) var faults: [CatalogueError.Fault] = []

    /// Marks a key as the first of two; private use, so that no key has it. What follows up to the next mark tells apart three of a name.
    private static let mark: Character = "\u{E000}"

    /// A bound for files with nothing but doubles.
    private static let maximumDoubles = 200

    init(_ yaml: String) {
        var lines = yaml.split(separator: "\n", omittingEmptySubsequences: false).map { String($0) }
        for attempt in 0..<Self.maximumDoubles {
            do {
                self.root = try Yams.compose(yaml: lines.joined(separator: "\n"))
                if self.root == nil { self.faults.append(.init(line: 1, pointer: "", detail: "is empty")) }
                return
            } catch YamlError.duplicatedKeysInMapping(let names, let context) {
                // The first of the two gets another name, so that the rest can be read; whoever walks the tree finds and reports it.
                guard Self.rename(&lines, at: context.mark, attempt) else {
                    let names = names.map { "«\(Self.original($0))»" }.joined(separator: ", ")
                    self.faults.append(.init(line: context.mark.line, pointer: "", detail: "stands twice in one mapping: \(names)"))
                    return
                }
            } catch {
                self.faults.append(Self.fault(error))
                return
            }
        }
        self.faults.append(.init(line: 1, pointer: "", detail: "has more than \(Self.maximumDoubles) keys that stand twice"))
    }

    private static func rename(_ lines: inout [String], at mark: Mark, _ attempt: Int) -> Bool {
        guard lines.indices.contains(mark.line - 1) else { return false }
        var scalars = Array(lines[mark.line - 1].unicodeScalars)
        var column = mark.column - 1
        guard scalars.indices.contains(column), !"&*!?[{".unicodeScalars.contains(scalars[column]) else { return false }
        if scalars[column] == "\"" || scalars[column] == "'" { column += 1 }
        scalars.insert(contentsOf: "\(self.mark)\(attempt)\(self.mark)".unicodeScalars, at: column)
        var line = String.UnicodeScalarView()
        line.append(contentsOf: scalars)
        lines[mark.line - 1] = String(line)
        return true
    }

    /// What the key said before it was marked.
    static func original(_ key: String) -> String {
        guard key.first == Self.mark, let end = key.dropFirst().firstIndex(of: Self.mark) else { return key }
        return String(key[key.index(after: end)...])
    }

    private static func fault(_ error: any Error) -> CatalogueError.Fault {
        switch error {
        case YamlError.scanner(let context, let problem, let mark, _), YamlError.parser(let context, let problem, let mark, _),
            YamlError.composer(let context, let problem, let mark, _):
            let place = context.map { "\($0.text) of line \($0.mark.line): " } ?? ""
            return .init(line: mark.line, pointer: "", detail: "is not YAML: \(place)\(problem)")
        case YamlError.reader(let problem, let offset, _, let yaml):
            let line = offset.map { yaml.prefix($0).count { $0.isNewline } + 1 } ?? 1
            return .init(line: line, pointer: "", detail: "is not YAML: \(problem)")
        default:
            return .init(line: 1, pointer: "", detail: "is not YAML: \(error)")
        }
    }
}
