import Mustache

/// What one rendering may still use. The library cannot be stopped, so its data are: past the budget every loop ends and every variable is empty,
/// and what was made is thrown away.
final class RenderBudget {
    private var bytes: Int
    private var steps: Int
    private var lookups = 50_000
    private(set) var isExhausted = false

    /// - Parameters:
    ///   - bytes: of what variables insert, before it is escaped.
    ///   - steps: turns of all loops together.
    init(bytes: Int, steps: Int) {
        self.bytes = bytes
        self.steps = steps
    }

    func insert(_ text: String) -> String {
        self.bytes -= text.utf8.count
        if self.bytes < 0 { self.isExhausted = true }
        return self.isExhausted ? "" : text
    }

    func step() -> Bool {
        self.steps -= 1
        if self.steps < 0 { self.isExhausted = true }
        return !self.isExhausted
    }

    func lookUp(among count: Int) -> Bool {
        self.lookups -= 1 + count / 16
        if self.lookups < 0 { self.isExhausted = true }
        return !self.isExhausted
    }
}

/// A JSON value as the library takes it: a bool as itself, all else in a type that counts.
func templateValue(_ json: JSONValue, _ budget: RenderBudget) -> Any {
    switch json {
    case .null: TemplateText(text: "", isNull: true, budget: budget)
    case .bool(let value): value
    case .number(let digits): TemplateText(text: digits, isNull: Double(digits) == 0, budget: budget)
    case .string(let text): TemplateText(text: text, isNull: text.isEmpty, budget: budget)
    case .array(let values): TemplateList(values: values, budget: budget)
    case .object(let members): TemplateObject(members: members, budget: budget)
    }
}

private struct TemplateText: MustacheParent, MustacheCustomRenderable {
    let text: String
    let isNull: Bool
    let budget: RenderBudget

    var renderText: String { self.budget.insert(self.text) }
    func child(named: String) -> Any? { nil }
}

private struct TemplateObject: MustacheParent, MustacheCustomRenderable {
    let members: [(name: String, value: JSONValue)]
    let budget: RenderBudget

    var isNull: Bool { self.members.isEmpty }
    /// An object where a text is expected: its JSON shows the mistake.
    var renderText: String { self.budget.insert(String(decoding: JSONValue.object(self.members).encoded, as: UTF8.self)) }

    func child(named name: String) -> Any? {
        guard self.budget.lookUp(among: self.members.count) else { return nil }
        return self.members.last { $0.name.utf8.elementsEqual(name.utf8) }.map { templateValue($0.value, self.budget) }
    }
}

private struct TemplateList: MustacheSequence, MustacheParent, MustacheCustomRenderable {
    struct Iterator: IteratorProtocol {
        var rest: ArraySlice<JSONValue>
        let budget: RenderBudget

        mutating func next() -> Any? {
            guard let value = self.rest.popFirst(), self.budget.step() else { return nil }
            return templateValue(value, self.budget)
        }
    }

    let values: [JSONValue]
    let budget: RenderBudget

    var isNull: Bool { self.values.isEmpty }
    var renderText: String { self.budget.insert(String(decoding: JSONValue.array(self.values).encoded, as: UTF8.self)) }

    func makeIterator() -> Iterator { Iterator(rest: self.values[...], budget: self.budget) }
    func child(named: String) -> Any? { nil }
}
