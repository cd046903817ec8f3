import Foundation

/// Tries inputs on one parser: all that are kept in its folder, then so many made of these. The same seed makes the same inputs.
///
/// Each input lies in a file while it is tried, so that the one that ends the process is known: `.build/fuzz/NAME.input`. What breaks a promise is left in
/// `.build/fuzz/broken`. Once it is mended, its input belongs into the parser's folder.
struct Fuzzer {
    struct Settings {
        var count = 1500
        var seed: UInt64 = 1
        /// Only that parser; nil: all.
        var only: String?
        /// Inputs of a new kind are added to the parser's folder.
        var keeps = false
        var printsTimes = false

        init(_ environment: [String: String] = ProcessInfo.processInfo.environment) {
            if environment["CARILLON_TEST_LONG"] == "1" { self.count = 30_000 }
            if let text = environment["CARILLON_FUZZ_COUNT"], let count = Int(text) { self.count = count }
            if let text = environment["CARILLON_FUZZ_SEED"], let seed = UInt64(text) { self.seed = seed }
            self.only = environment["CARILLON_FUZZ_PARSER"].flatMap { $0.isEmpty ? nil : $0 }
            self.keeps = environment["CARILLON_FUZZ_KEEP"] == "1"
            self.printsTimes = environment["CARILLON_FUZZ_TIMES"] == "1"
        }
    }

    struct Report {
        var tried = 0
        /// Kinds of outcomes that were seen.
        var kinds = 0
        /// What was broken, and where the input lies.
        var broken: [String] = []
    }

    /// Inputs that others are made of.
    private static let poolBound = 400
    private static let brokenBound = 3

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    private static let scratch = Self.root.appendingPathComponent(".build/fuzz")

    let parser: Parser
    let settings: Settings
    private let current: CurrentInput
    private var report = Report()
    private var kinds: Set<String> = []
    private var pool: [[UInt8]] = []

    init(_ parser: Parser, _ settings: Settings) throws {
        self.parser = parser
        self.settings = settings
        try FileManager.default.createDirectory(at: Self.scratch.appendingPathComponent("broken"), withIntermediateDirectories: true)
        self.current = try CurrentInput(path: Self.scratch.appendingPathComponent(parser.name + ".input").path)
    }

    static func folder(of name: String) -> URL { Self.root.appendingPathComponent("Tests/Fuzz/corpus/\(name)") }

    static func folders() throws -> Set<String> {
        Set(try FileManager.default.contentsOfDirectory(atPath: Self.folder(of: "").path))
    }

    /// In the order of their names.
    static func kept(_ name: String) throws -> [[UInt8]] {
        let files = try FileManager.default.contentsOfDirectory(at: Self.folder(of: name), includingPropertiesForKeys: nil)
        return try files.sorted { $0.lastPathComponent < $1.lastPathComponent }.map { Array(try Data(contentsOf: $0)) }
    }

    mutating func run() throws -> Report {
        // What ended the process the last time comes first: it shows whether it is mended.
        if let last = self.current.left { self.attempt(last) }
        for input in try Self.kept(self.parser.name) + self.parser.made() {
            self.pool.append(input)
            self.attempt(input)
        }
        var mutator = Mutator(seed: self.settings.seed &* 0x100_0000_01B3 ^ UInt64(self.parser.name.utf8.reduce(0) { ($0 &* 31) &+ Int($1) }), words: self.parser.words)
        for _ in 0..<max(1, self.settings.count / self.parser.cost) where self.report.broken.count < Self.brokenBound {
            // The newest ones more often: they are what led further.
            let newest = mutator.pick(3) == 0 ? max(0, self.pool.count - 20) : 0
            let base = self.pool[newest + mutator.pick(self.pool.count - newest)]
            let input = mutator.mutate(base, other: self.pool[mutator.pick(self.pool.count)])
            if self.attempt(input), input.count <= 4096, self.pool.count < Self.poolBound {
                self.pool.append(input)
                if self.settings.keeps { try self.keep(input) }
            }
        }
        if self.settings.printsTimes { self.printTimes() }
        self.current.end()
        self.report.kinds = self.kinds.count
        return self.report
    }

    /// True: what became of it is new.
    @discardableResult
    private mutating func attempt(_ input: [UInt8]) -> Bool {
        self.current.set(input)
        self.report.tried += 1
        do {
            return self.kinds.insert(try self.parser.run(input)).inserted
        } catch {
            let name = "\(self.parser.name)-\(Self.digest(input))"
            self.report.broken.append("\(error); the input is in .build/fuzz/broken/\(name)")
            do {
                try Data(input).write(to: Self.scratch.appendingPathComponent("broken/\(name)"))
            } catch {
                self.report.broken.append("and could not be written: \(error)")
            }
            return false
        }
    }

    private func keep(_ input: [UInt8]) throws {
        try Data(input).write(to: Self.folder(of: self.parser.name).appendingPathComponent("found-\(Self.digest(input))"))
    }

    /// FNV-1a.
    private static func digest(_ input: [UInt8]) -> String {
        String(input.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }, radix: 16)
    }

    /// What a byte of a long input takes against one of a short input of the same kind: about 1 where time grows with length.
    private mutating func printTimes() {
        var worst = (ratio: 0.0, milliseconds: 0.0)
        for input in self.pool.prefix(max(4, 60 / (self.parser.cost * self.parser.cost))) where !input.isEmpty {
            let (short, long) = (Self.grown(input, 2048), Self.grown(input, Mutator.bound))
            let (first, second) = (self.time(short) / Double(short.count), self.time(long) / Double(long.count))
            if second / first > worst.ratio { worst = (second / first, second * Double(long.count) / 1e6) }
        }
        print("time of \(self.parser.name): a byte of 64 KiB against one of 2 KiB at most \(String(format: "%.1f", worst.ratio)), which were \(String(format: "%.1f", worst.milliseconds)) ms")
    }

    /// Its middle repeated.
    private static func grown(_ input: [UInt8], _ size: Int) -> [UInt8] {
        let (start, end) = (input.count / 3, max(input.count / 3 + 1, input.count * 2 / 3))
        let middle = Array(input[start..<min(end, input.count)])
        let times = max(1, (size - input.count) / max(1, middle.count))
        return Array((input[..<start] + Array((0..<times).map { _ in middle }.joined()) + input[min(end, input.count)...]).prefix(size))
    }

    private mutating func time(_ input: [UInt8]) -> Double {
        let began = ContinuousClock.now
        for _ in 0..<3 { self.attempt(input) }
        let took = ContinuousClock.now - began
        return max(1, Double(took.components.seconds) * 1e9 + Double(took.components.attoseconds) / 1e9) / 3
    }
}

/// The input that is being tried, in a file that outlives the process.
final class CurrentInput {
    private let descriptor: Int32
    private let path: String
    /// Of a process that did not come to its end.
    let left: [UInt8]?

    init(path: String) throws {
        self.left = FileManager.default.contents(atPath: path).map { Array($0) }
        self.path = path
        self.descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
        if self.descriptor < 0 { throw Broken("\(path) cannot be written") }
    }

    func set(_ input: [UInt8]) {
        guard ftruncate(self.descriptor, 0) == 0, input.isEmpty || pwrite(self.descriptor, input, input.count, 0) == input.count else {
            fatalError("\(self.path) cannot be written")
        }
    }

    func end() {
        close(self.descriptor)
        unlink(self.path)
    }
}
