import Gateway
import NIOHTTP1
import NotificationCore

/// Takes values out of a query and collects what is wrong with them. Nothing is clamped or guessed.
struct ParameterReader {
    private let query: Query
    private(set) var errors: [FieldError] = []

    init(_ query: Query) {
        self.query = query
    }

    /// All that was wrong, as one answer.
    func check() throws(Problem) {
        guard let first = self.errors.first else { return }
        throw Problem(.unprocessableEntity, "invalid_body", "\(first.pointer): \(first.detail)", errors: self.errors)
    }

    mutating func fail(_ name: String, _ detail: String) {
        self.errors.append(FieldError(pointer: name, detail: detail))
    }

    func has(_ name: String) -> Bool { self.query[name] != nil }

    mutating func number(_ name: String, _ range: ClosedRange<Int>) -> Int? {
        guard let text = self.query[name] else { return nil }
        let isDecimal = (1...9).contains(text.utf8.count) && text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard isDecimal, let value = Int(text), range.contains(value) else {
            self.fail(name, "must be a number from \(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return value
    }

    mutating func choice<Value>(_ name: String, _ parse: (String) -> Value?, _ all: [String]) -> Value? {
        guard let text = self.query[name] else { return nil }
        guard let value = parse(text) else {
            self.fail(name, "must be one of " + all.joined(separator: ", "))
            return nil
        }
        return value
    }

    /// An id or a name: 1 to 128 characters, none of them a control character.
    mutating func word(_ name: String) -> String? {
        guard let text = self.query[name] else { return nil }
        guard let id = OpaqueID(text) else {
            self.fail(name, "must have 1 to \(OpaqueID.maximumLength) characters, none of them a control character")
            return nil
        }
        return id.value
    }

    mutating func time(_ name: String) -> Timestamp? {
        guard let text = self.query[name] else { return nil }
        guard let time = Timestamp(text) else {
            self.fail(name, "must be an RFC 3339 time")
            return nil
        }
        return time
    }

    func text(_ name: String) -> String? { self.query[name] }
}
