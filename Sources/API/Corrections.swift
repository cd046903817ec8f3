import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `PATCH` and `DELETE /v1/internal/notifications`: the application corrects what it has sent, or takes it back.
struct Corrections: Sendable {
    static let failure = "failed_to_correct"

    let sent: SentNotifications
    let credentials: Credentials

    func correct(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await self.authorize(context)
        let json = try JSONBody.parse(context.request.body)
        let selector = try SelectorReader.selector(json, isRest: NotificationCorrection.isField, rest: "cannot be changed")
        let correction: NotificationCorrection
        do throws(ValidationError) {
            correction = try NotificationCorrection(json: json, now: .now())
        } catch {
            throw Problem(error)
        }
        let result = try await stored(Self.failure, context) { () async throws(StoreError) in try await self.sent.correct(selector, correction) }
        return try Self.answer("updated", result)
    }

    /// What is meant stands in the body or in the query, since many clients cannot send a body with `DELETE`.
    func takeBack(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await self.authorize(context)
        let query = SelectorReader.json(context.request.query)
        let json: JSONValue
        if context.request.body.readableBytes == 0 {
            json = query
        } else {
            json = try JSONBody.parse(context.request.body)
            guard query == .object([]) else { throw .invalidField("", "what is meant stands in the body or in the query, not in both") }
        }
        let selector = try SelectorReader.selector(json, isRest: { _ in false }, rest: "is nothing that notifications are found by")
        let result = try await stored(Self.failure, context) { () async throws(StoreError) in try await self.sent.takeBack(selector) }
        return try Self.answer("deleted", result)
    }

    private func authorize(_ context: CarillonRequestContext) async throws(Problem) {
        let request = context.request
        _ = try await self.credentials.application(request, scope: .notify)
    }

    private static func answer(_ name: StaticString, _ result: SentNotifications.Result) throws(Problem) -> GatewayResponse {
        if result.found == 0 { throw .notFound }
        var bytes: [UInt8] = []
        bytes.append(ascii: "{\"")
        bytes.append(ascii: name)
        bytes.append(ascii: "\":")
        bytes.append(decimal: Int64(result.changed))
        bytes.append(UInt8(ascii: "}"))
        return .json(.ok, bytes)
    }
}

/// Which notifications a request means: exactly one kind of mark, narrowed to users and a customer.
enum SelectorReader {
    private static let users = ["user_ids", "user_id", "userId"]

    /// - Parameters:
    ///   - isRest: fields that somebody else reads.
    ///   - rest: what is said of all others.
    static func selector(_ json: JSONValue, isRest: (String) -> Bool, rest: String) throws(Problem) -> SentSelector {
        guard case .object(let members) = json else { throw .invalidField("", "the body must be an object") }
        var errors: [FieldError] = []
        var words: [String: String] = [:]
        var given: [UserID]?
        for (name, value) in members where !isRest(name) {
            switch name {
            case "id":
                guard let text = value.string, NotificationID(text) != nil else { throw .invalidID }
                words[name] = text
            case "collapse_key", "rec_type", "rec_id", "customer_id":
                guard let word = value.string.flatMap({ OpaqueID($0) }) else {
                    errors.add("/" + name, Self.wordRule)
                    continue
                }
                words[name] = word.value
            case "user_ids":
                guard case .array(let list) = value, (1...NotifyRequest.Limits().users).contains(list.count) else {
                    errors.add("/user_ids", "must be an array of 1 to \(NotifyRequest.Limits().users) users")
                    continue
                }
                for (index, item) in list.enumerated() { Self.add(item, "/user_ids/\(index)", to: &given, &errors) }
            case "user_id", "userId":
                Self.add(value, "/" + name, to: &given, &errors)
            default:
                errors.add("/" + name, rest)
            }
        }
        var marks: [SentSelector.Mark] = []
        if let id = words["id"].flatMap({ NotificationID($0) }) { marks.append(.id(id)) }
        if let key = words["collapse_key"] { marks.append(.collapseKey(key)) }
        switch (words["rec_type"], words["rec_id"]) {
        case (let type?, let id?): marks.append(.record(type: type, id: id))
        case (.some, nil): errors.add("/rec_id", "is needed beside rec_type")
        case (nil, .some): errors.add("/rec_type", "is needed beside rec_id")
        case (nil, nil): break
        }
        if errors.isEmpty, marks.count != 1 {
            errors.add("", "needs one of id, collapse_key, and rec_type with rec_id")
        }
        if let first = errors.first {
            throw Problem(.unprocessableEntity, "invalid_body", "\(first.pointer): \(first.detail)", errors: errors)
        }
        return SentSelector(mark: marks[0], users: given, customer: words["customer_id"])
    }

    private static let wordRule = "must be a string of 1 to \(OpaqueID.maximumLength) characters, none of them a control character"

    private static func add(_ value: JSONValue, _ pointer: String, to users: inout [UserID]?, _ errors: inout [FieldError]) {
        guard let user = value.string.flatMap({ UserID($0) }) else {
            errors.add(pointer, self.wordRule)
            return
        }
        users == nil ? users = [user] : users!.append(user)
    }

    /// The same from a query, where a user may be named more than once.
    static func json(_ query: Query) -> JSONValue {
        var members: [(name: String, value: JSONValue)] = []
        var users: [JSONValue] = []
        for (name, value) in query.parameters {
            if Self.users.contains(name) {
                users.append(.string(value))
            } else if !members.contains(where: { $0.name == name }) {
                members.append((name, .string(value)))
            }
        }
        if !users.isEmpty { members.append(("user_ids", .array(users))) }
        return .object(members)
    }
}
