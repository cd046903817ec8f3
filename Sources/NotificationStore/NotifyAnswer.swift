public import NotificationCore

/// The answer to `POST /v1/internal/notify`.
public struct NotifyAnswer: Sendable {
    public struct Entry: Sendable {
        public var id: NotificationID
        public var user: UserID
        /// Nil: stored without a number, for tracking or until it is due.
        public var seq: Int64?
    }

    public var entries: [Entry]
    public var skipped: [NotifyPlan.Skipped]

    public init(_ plan: NotifyPlan) {
        self.entries = plan.entries.map { Entry(id: $0.id, user: $0.user) }
        self.skipped = plan.skipped
    }

    /// An answer as ``encode()`` made it before the numbers were known, and the numbers. Nil when it is none.
    public init?(_ text: String, seqs: [NotificationID: Int64?]) {
        guard let json = try? JSONParser.parse(Array(text.utf8)) else { return nil }
        self.init(json, seqs: seqs)
    }

    init?(_ json: JSONValue, seqs: [NotificationID: Int64?]) {
        guard case .array(let list) = json["notifications"], case .array(let skipped) = json["skipped"] else { return nil }
        self.entries = []
        self.skipped = []
        self.entries.reserveCapacity(list.count)
        for item in list {
            guard let id = item["id"]?.string.flatMap({ NotificationID($0) }), let user = item["user_id"]?.string.flatMap({ UserID($0) }) else { return nil }
            self.entries.append(Entry(id: id, user: user, seq: seqs[id] ?? nil))
        }
        for item in skipped {
            guard let user = item["user_id"]?.string.flatMap({ UserID($0) }), let reason = item["reason"]?.string.flatMap({ Suppression(rawValue: $0) }) else {
                return nil
            }
            self.skipped.append(NotifyPlan.Skipped(user: user, reason: reason))
        }
    }

    /// The same in the order of the request.
    public func ordered(by users: [UserID]) -> NotifyAnswer {
        var places: [UserID: Int] = [:]
        places.reserveCapacity(users.count)
        for (place, user) in users.enumerated() { places[user] = place }
        var answer = self
        answer.entries.sort { places[$0.user, default: .max] < places[$1.user, default: .max] }
        answer.skipped.sort { places[$0.user, default: .max] < places[$1.user, default: .max] }
        return answer
    }

    public func encode() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(64 + self.entries.reduce(0) { $0 + 80 + $1.user.value.utf8.count })
        bytes.append(UInt8(ascii: "{"))
        self.appendMembers(to: &bytes)
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }

    func appendMembers(to bytes: inout [UInt8]) {
        bytes.append(ascii: "\"notifications\":[")
        for (index, entry) in self.entries.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(ascii: "{\"id\":\"")
            entry.id.append(to: &bytes)
            bytes.append(ascii: "\",\"user_id\":")
            bytes.append(json: entry.user.value)
            bytes.append(ascii: ",\"seq\":")
            if let seq = entry.seq { bytes.append(decimal: seq) } else { bytes.append(ascii: "null") }
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(ascii: "],\"skipped\":[")
        for (index, skipped) in self.skipped.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(ascii: "{\"user_id\":")
            bytes.append(json: skipped.user.value)
            bytes.append(ascii: ",\"reason\":\"")
            bytes.append(contentsOf: skipped.reason.rawValue.utf8)
            bytes.append(ascii: "\"}")
        }
        bytes.append(UInt8(ascii: "]"))
    }
}
