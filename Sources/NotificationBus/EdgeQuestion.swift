public import NotificationCore

/// What every edge is asked over its control channel. Each answers into the list of that name, which somebody waits at.
public enum EdgeQuestion: Sendable, Equatable {
    /// How many streams there are, and whose: the first users after one, in the order of their bytes.
    case report(answerTo: String, after: UserID?, limit: Int)
    /// Close this user's streams, and say how many they were.
    case disconnect(UserID, answerTo: String)

    public var answerTo: String {
        switch self {
        case .report(let name, _, _), .disconnect(_, let name): name
        }
    }

    var text: String {
        let json: JSONValue =
            switch self {
            case .report(let name, let after, let limit):
                .array([.string("report"), .string(name), after.map { .string($0.value) } ?? .null, .number(String(limit))])
            case .disconnect(let user, let name):
                .array([.string("disconnect"), .string(name), .string(user.value)])
            }
        return String(decoding: json.encoded, as: UTF8.self)
    }

    init?(_ text: String) {
        guard let json = try? JSONParser.parse(Array(text.utf8)), case .array(let parts) = json, parts.count >= 3, let name = parts[1].string
        else { return nil }
        switch (parts[0].string, parts.count) {
        case ("report", 4):
            guard case .number(let digits) = parts[3], let limit = Int(digits), limit > 0 else { return nil }
            self = .report(answerTo: name, after: parts[2].string.flatMap { UserID($0) }, limit: limit)
        case ("disconnect", 3):
            guard let user = parts[2].string.flatMap({ UserID($0) }) else { return nil }
            self = .disconnect(user, answerTo: name)
        default: return nil
        }
    }
}

/// What an edge answers.
public struct EdgeAnswer: Sendable, Equatable {
    public struct User: Sendable, Equatable {
        public var user: UserID
        public var streams: Int

        public init(user: UserID, streams: Int) {
            self.user = user
            self.streams = streams
        }
    }

    /// How many streams it has, or has closed.
    public var streams: Int
    public var users: [User]

    public init(streams: Int, users: [User] = []) {
        self.streams = streams
        self.users = users
    }

    func text(edge: String) -> String {
        let users = self.users.map { JSONValue.array([.string($0.user.value), .number(String($0.streams))]) }
        return String(decoding: JSONValue.array([.string(edge), .number(String(self.streams)), .array(users)]).encoded, as: UTF8.self)
    }

    static func parse(_ text: String) -> (edge: String, answer: EdgeAnswer)? {
        guard let json = try? JSONParser.parse(Array(text.utf8)), case .array(let parts) = json, parts.count == 3, let edge = parts[0].string,
            case .number(let digits) = parts[1], let streams = Int(digits), case .array(let users) = parts[2]
        else { return nil }
        var answer = EdgeAnswer(streams: streams)
        for user in users {
            guard case .array(let pair) = user, pair.count == 2, let id = pair[0].string.flatMap({ UserID($0) }), case .number(let digits) = pair[1],
                let streams = Int(digits)
            else { return nil }
            answer.users.append(User(user: id, streams: streams))
        }
        return (edge, answer)
    }
}
