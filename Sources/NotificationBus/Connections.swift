import NIOCore
public import NotificationCore
public import RedisClient

/// One life of one edge, as its name in Redis tells: when it began, something random, and its node's name.
public struct EdgeIncarnation: Sendable, Hashable {
    public let name: String
    public let node: String
    public let since: Timestamp

    /// Nil for what no edge calls itself.
    init?(_ name: String) {
        let parts = name.split(separator: "-", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let milliseconds = Int64(parts[0]), milliseconds >= 0, milliseconds < Int64.max / 1000 else { return nil }
        self.name = name
        self.node = RedisNames.decode(parts[2])
        self.since = Timestamp(microseconds: milliseconds * 1000)
    }

    static func make(node: String) -> String {
        "\(Timestamp.now().microseconds / 1000)-\(String(UInt64.random(in: .min ... .max), radix: 36))-\(RedisNames.encode(node))"
    }
}

/// Who is connected where. It asks Redis, and the edges through it; without Redis nothing is known.
public final class Connections: Sendable {
    public struct Stream: Sendable {
        public var edge: EdgeIncarnation
        public var connection: String
        public var transport: Transport
        public var since: Timestamp
    }

    public struct Edge: Sendable {
        public var edge: EdgeIncarnation
        /// Nil: it did not answer in time.
        public var streams: Int?
    }

    public struct User: Sendable {
        public var user: UserID
        public var streams: [(edge: EdgeIncarnation, count: Int)]
        public var count: Int { self.streams.reduce(0) { $0 + $1.count } }
    }

    public struct Page: Sendable {
        public var edges: [Edge]
        public var users: [User]
        /// Whether there are users after the last one.
        public var more: Bool
    }

    public struct Disconnection: Sendable {
        public var streams: Int
        /// Edges that did not answer in time: their streams may be open.
        public var silent: [EdgeIncarnation]
    }

    /// How long edges are waited for, and how often it is looked whether they have answered.
    private static let patience: Duration = .milliseconds(1500)
    private static let pause: Duration = .milliseconds(10)

    private let redis: RedisClient
    private let names: RedisNames

    public init(redis: RedisClient, names: RedisNames) {
        self.redis = redis
        self.names = names
    }

    // ARGV: how old a heartbeat may be, in milliseconds.
    private static let living = RedisScript(
        """
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        return redis.call('ZRANGEBYSCORE', KEYS[1], now - tonumber(ARGV[1]), '+inf')
        """)

    /// Edges whose heart beats, by name.
    func edges() async throws -> [EdgeIncarnation] {
        let value = try await self.redis.run(Self.living, keys: [self.names.edges], arguments: [.integer(Leases.deadMilliseconds)]).get()
        if let error = value.error { throw error }
        return (value.array ?? []).compactMap(\.string).compactMap(EdgeIncarnation.init).sorted { ($0.node, $0.name) < ($1.node, $1.name) }
    }

    /// This user's streams, the oldest first.
    ///
    /// - Throws: ``RedisError``.
    public func streams(of user: UserID) async throws -> [Stream] {
        let alive = try await self.edges()
        let value = try await self.redis.send(RedisCommand("ZRANGE", .string(self.names.leases(user)), 0, -1, "WITHSCORES")).get()
        if let error = value.error { throw error }
        let words = (value.array ?? []).compactMap(\.string)
        var streams: [Stream] = []
        for index in stride(from: 0, to: words.count - 1, by: 2) {
            guard let member = Lease.parse(member: words[index]), let since = Int64(words[index + 1]),
                let edge = alive.first(where: { $0.name == member.edge })
            else { continue }
            streams.append(
                Stream(
                    edge: edge, connection: member.connection, transport: member.transport, since: Timestamp(microseconds: since * 1000)))
        }
        return streams
    }

    /// How many streams each edge has, and the first `limit` connected users after one, in the order of their bytes.
    ///
    /// - Throws: ``RedisError``.
    public func page(after user: UserID?, limit: Int) async throws -> Page {
        let alive = try await self.edges()
        let answers = try await self.ask(alive) { .report(answerTo: $0, after: user, limit: limit + 1) }
        var users: [UserID: [(edge: EdgeIncarnation, count: Int)]] = [:]
        for edge in alive {
            for entry in answers[edge.name]?.users ?? [] { users[entry.user, default: []].append((edge, entry.streams)) }
        }
        // Each edge's first ones: the first of all are among them.
        let sorted = users.keys.sorted()
        return Page(
            edges: alive.map { Edge(edge: $0, streams: answers[$0.name]?.streams) },
            users: sorted.prefix(limit).map { User(user: $0, streams: users[$0] ?? []) }, more: sorted.count > limit)
    }

    /// Closes this user's streams on every edge.
    ///
    /// - Throws: ``RedisError``.
    public func disconnect(_ user: UserID) async throws -> Disconnection {
        let alive = try await self.edges()
        let answers = try await self.ask(alive) { .disconnect(user, answerTo: $0) }
        return Disconnection(streams: answers.values.reduce(0) { $0 + $1.streams }, silent: alive.filter { answers[$0.name] == nil })
    }

    /// Answers by edge; those are missing that did not answer in time.
    private func ask(_ edges: [EdgeIncarnation], _ question: (String) -> EdgeQuestion) async throws -> [String: EdgeAnswer] {
        if edges.isEmpty { return [:] }
        let list = self.names.answers(NotificationID.make().description)
        let text = question(list).text
        for value in try await self.redis.pipeline(edges.map { RedisCommand("PUBLISH", .string(self.names.control(edge: $0.name)), .string(text)) }).get() {
            if let error = value.error { throw error }
        }
        let deadline = ContinuousClock.now + Self.patience
        var answers: [String: EdgeAnswer] = [:]
        while true {
            let value = try await self.redis.send(RedisCommand("LRANGE", .string(list), .integer(Int64(answers.count)), -1)).get()
            if let error = value.error { throw error }
            for text in (value.array ?? []).compactMap(\.string) {
                guard let (edge, answer) = EdgeAnswer.parse(text) else { continue }
                answers[edge] = answer
            }
            if answers.count >= edges.count || ContinuousClock.now >= deadline { return answers }
            try await Task.sleep(for: Self.pause)
        }
    }
}

extension Leases {
    /// Answers what somebody asked of this edge.
    public func answer(_ question: EdgeQuestion, _ answer: EdgeAnswer) {
        self.push(answer.text(edge: self.incarnation), to: question.answerTo)
    }
}
