import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore

/// The body of a change to one notification's flags.
struct FlagsBody: Sendable, Equatable {
    var read: Bool?
    var seen: Bool?
    var archived: Bool?

    var isEmpty: Bool { self.read == nil && self.seen == nil && self.archived == nil }

    /// An empty body is an empty object.
    init(_ body: ByteBuffer) throws(Problem) {
        var errors: [FieldError] = []
        for (name, value) in try JSONBody.object(body) {
            guard case .bool(let flag) = value else {
                let isKnown = ["read", "seen", "archived"].contains(name)
                errors.add("/" + name, isKnown ? "must be true or false" : "cannot be changed")
                continue
            }
            switch name {
            case "read": self.read = flag
            case "seen": self.seen = flag
            case "archived": self.archived = flag
            default: errors.add("/" + name, "cannot be changed")
            }
        }
        if self.archived == true, self.read == false { errors.add("/read", "what is archived is read") }
        guard let first = errors.first else { return }
        throw Problem(.unprocessableEntity, "invalid_body", "\(first.pointer): \(first.detail)", errors: errors)
    }
}

/// A body that is one JSON object.
enum JSONBody {
    static func parse(_ body: ByteBuffer) throws(Problem) -> JSONValue {
        let result: Result<JSONValue, JSONError> = body.withUnsafeReadableBytes { bytes in
            do throws(JSONError) {
                return .success(try JSONParser.parse(bytes.bindMemory(to: UInt8.self)))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let value): return value
        case .failure(let error): throw .invalidBody("The body is not JSON: \(error.message), at byte \(error.offset).")
        }
    }

    /// The members; none for an empty body.
    static func object(_ body: ByteBuffer) throws(Problem) -> [(name: String, value: JSONValue)] {
        if body.readableBytes == 0 { return [] }
        guard case .object(let members) = try self.parse(body) else { throw .invalidField("", "the body must be an object") }
        return members
    }
}
