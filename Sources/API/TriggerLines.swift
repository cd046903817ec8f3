import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore

/// Reads `application/x-ndjson` as it comes: on the first line a notification without users, then one user a line.
///
/// A user is a JSON string. A line without quotes is taken as it stands when it cannot be anything else: it begins with none of `"`, `{` and `[`,
/// has no space at its ends, and is not `null`, `true` or `false`. Empty lines and a carriage return at a line's end mean nothing.
struct TriggerLines {
    static let firstLineBound = 128 * 1024
    /// An id of 128 scalars, each as two escapes.
    static let lineBound = 2048
    static let userBound = 1_000_000

    /// What came after the last line's end.
    private var rest: [UInt8] = []
    /// Lines that came whole.
    private var number = 0
    private(set) var first: JSONValue?
    /// Users that came, doubles counted as often.
    private(set) var count = 0

    /// Appends the users of the lines that end in this part.
    ///
    /// - Throws: ``Problem`` that names the line.
    mutating func add(_ part: ByteBuffer, to users: inout [UserID]) throws(Problem) {
        var view = part.readableBytesView[...]
        while let end = view.firstIndex(of: UInt8(ascii: "\n")) {
            if self.rest.isEmpty {
                try self.line(view[..<end], to: &users)
            } else {
                try self.keep(view[..<end])
                let line = self.rest
                self.rest.removeAll(keepingCapacity: true)
                try self.line(line[...], to: &users)
            }
            view = view[(end + 1)...]
        }
        try self.keep(view)
    }

    /// The body is over: the last line may lack its end.
    mutating func end(to users: inout [UserID]) throws(Problem) {
        let line = self.rest
        self.rest = []
        if !line.isEmpty { try self.line(line[...], to: &users) }
        if self.first == nil { throw .invalidBody("The body is empty: its first line is the notification.") }
        if self.count == 0 { throw self.wrong("after the notification one user a line is needed") }
    }

    private mutating func keep(_ bytes: some Collection<UInt8>) throws(Problem) {
        try self.check(self.rest.count + bytes.count)
        self.rest.append(contentsOf: bytes)
    }

    private func check(_ length: Int) throws(Problem) {
        let bound = self.first == nil ? Self.firstLineBound : Self.lineBound
        if length > bound { throw Problem(.payloadTooLarge, "too_large", "Line \(self.number + 1) has more than \(bound) bytes.") }
    }

    private mutating func line(_ bytes: some BidirectionalCollection<UInt8>, to users: inout [UserID]) throws(Problem) {
        try self.check(bytes.count)
        self.number += 1
        let text = bytes.last == UInt8(ascii: "\r") ? Array(bytes.dropLast()) : Array(bytes)
        if text.isEmpty { return }
        if self.first == nil {
            do throws(JSONError) {
                self.first = try JSONParser.parse(text)
            } catch {
                throw .invalidBody("Line \(self.number) is not JSON: \(error.message), at byte \(error.offset).")
            }
            return
        }
        if self.count == Self.userBound {
            throw Problem(.payloadTooLarge, "too_large", "Line \(self.number) is one user too many: \(Self.userBound) are the most.")
        }
        guard let user = Self.string(text).flatMap({ UserID($0) }) else {
            throw self.wrong("must be a user: a JSON string of 1 to \(UserID.maximumLength) characters, none of them a control character")
        }
        users.append(user)
        self.count += 1
    }

    private static let words: Set<[UInt8]> = [Array("null".utf8), Array("true".utf8), Array("false".utf8)]

    private static func string(_ text: [UInt8]) -> String? {
        switch text[0] {
        case UInt8(ascii: "\""):
            // Nil for anything but a string.
            return (try? JSONParser.parse(text))?.string
        case UInt8(ascii: "{"), UInt8(ascii: "["), UInt8(ascii: " "):
            return nil
        default:
            if text.last == UInt8(ascii: " ") || self.words.contains(text) { return nil }
            return String(validating: text, as: UTF8.self)
        }
    }

    private func wrong(_ detail: String) -> Problem {
        Problem(.unprocessableEntity, "invalid_body", "Line \(self.number): \(detail).", errors: [FieldError(pointer: "", detail: "line \(self.number): \(detail)")])
    }
}
