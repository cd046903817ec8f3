public import Logging
public import NIOCore
public import NotificationCore
public import RedisClient
import Synchronization

/// How a stream comes to its client.
public enum Transport: String, Hashable, Sendable, CaseIterable {
    case sse
    case webSocket = "websocket"
    case socketIO = "socketio"
    case poll
}

/// A connection's place in its user's limit.
public struct Lease: Hashable, Sendable {
    public var user: UserID
    public var connection: NotificationID
    /// When the stream was opened: the oldest is evicted.
    public var openedAt: Timestamp
    public var transport: Transport

    public init(user: UserID, connection: NotificationID, openedAt: Timestamp, transport: Transport = .sse) {
        self.user = user
        self.connection = connection
        self.openedAt = openedAt
        self.transport = transport
    }

    /// As it stands in its user's set: the edge, the transport unless it is the usual one, the connection.
    func member(edge: String) -> String {
        self.transport == .sse ? "\(edge)/\(self.connection)" : "\(edge)/\(self.transport.rawValue)/\(self.connection)"
    }

    /// Nil for what no edge wrote.
    static func parse(member: String) -> (edge: String, transport: Transport, connection: String)? {
        let parts = member.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        switch parts.count {
        case 2: return (parts[0], .sse, parts[1])
        case 3: return Transport(rawValue: parts[1]).map { (parts[0], $0, parts[2]) }
        default: return nil
        }
    }
}

public enum LeaseAnswer: Sendable {
    case granted
    /// Over the limit, and the mode is to refuse.
    case refused
    /// It is the automatic reconnect of a stream that was evicted a moment ago.
    case evictedBefore
}

/// Connection limits that hold across the whole cluster. A user's leases are one sorted set; an edge renews nothing but its own heartbeat,
/// and members of edges whose heartbeat stopped do not count.
public final class Leases: Sendable {
    public enum Mode: String, Sendable, CaseIterable { case evict, refuse }

    /// An edge is dead when its heartbeat is this old.
    public static let deadMilliseconds: Int64 = 3000
    static let lifetimeSeconds: Int64 = 3600
    /// How long an evicted stream's own reconnect is known. It is told to come back after a minute, and comes a little later than that; timers of a
    /// tab that nobody looks at are late by up to a minute more.
    static let evictionMilliseconds: Int64 = 130_000

    private struct State {
        /// When each edge's heart beat last, as of `asOf` (both by Redis' clock, in milliseconds).
        var beats: [(edge: String, at: Int64)] = []
        var asOf: Int64 = 0
        /// The same moment by this node's clock.
        var lookedAt = NIODeadline.now()

        /// Those that live now: who has died since the look is not among them.
        var alive: [String] {
            let now = self.asOf + (NIODeadline.now() - self.lookedAt).nanoseconds / 1_000_000
            return self.beats.filter { now - $0.at < Leases.deadMilliseconds }.map(\.edge)
        }
        /// Releases that Redis did not hear of. Past the bound they end with their set's lifetime.
        var missed: Set<Lease> = []
        var lastBeat: NIODeadline?
        var hasLeft = false
    }

    private static let missedBound = 100_000

    /// This life of this edge: the time it began, something random, and its node's name. See ``EdgeIncarnation``.
    public let incarnation: String
    private let redis: RedisClient
    private let names: RedisNames
    private let limit: Int
    private let mode: Mode
    private let logger: Logger
    private let state = Mutex(State())
    private let ungoverned = Atomic<Int>(0)

    public init(redis: RedisClient, names: RedisNames, node: String, limit: Int, mode: Mode, logger: Logger) {
        self.incarnation = EdgeIncarnation.make(node: node)
        self.redis = redis
        self.names = names
        self.limit = limit
        self.mode = mode
        self.logger = logger
    }

    /// Streams let in without a look at the limit, since Redis was away.
    public var grantedWithoutRedis: Int { self.ungoverned.load(ordering: .relaxed) }

    // ARGV: member, score, limit, mode, fingerprint, now, lifetime, cutoff, alive edges.
    // A member's edge is dead when it is not among the living and began before they were looked up.
    private static let acquire = RedisScript(
        """
        local now = tonumber(ARGV[6])
        if ARGV[5] ~= '' then
            local count, till = string.match(redis.call('HGET', KEYS[2], ARGV[5]) or '', '^(%d+) (%d+)$')
            if till and tonumber(till) > now then
                if tonumber(count) > 1 then
                    redis.call('HSET', KEYS[2], ARGV[5], (count - 1) .. ' ' .. till)
                else
                    redis.call('HDEL', KEYS[2], ARGV[5])
                end
                return {'evicted'}
            end
        end
        local alive = {}
        for i = 9, #ARGV do alive[ARGV[i]] = true end
        local count, members = 0, redis.call('ZRANGE', KEYS[1], 0, -1)
        local living = {}
        for _, member in ipairs(members) do
            local edge = string.match(member, '^([^/]+)/')
            local began = tonumber(string.match(edge or '', '^(%d+)-')) or 0
            if not alive[edge] and began < tonumber(ARGV[8]) then
                redis.call('ZREM', KEYS[1], member)
            elseif member ~= ARGV[1] then
                count = count + 1
                living[count] = member
            end
        end
        local limit = tonumber(ARGV[3])
        if count >= limit and ARGV[4] == 'refuse' then return {'refused'} end
        redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
        redis.call('EXPIRE', KEYS[1], ARGV[7])
        local answer = {'granted'}
        local surplus = redis.call('ZCARD', KEYS[1]) - limit
        if surplus > 0 then
            for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, surplus - 1)) do
                redis.call('ZREM', KEYS[1], member)
                answer[#answer + 1] = member
            end
        end
        return answer
        """)

    // ARGV: the fingerprint, until when it counts, now, and the set's lifetime in seconds. Tabs that are alike and at the same place share a
    // fingerprint: it is counted. Those whose time is over go; past 256 one is not remembered, and its reconnect takes the place of another.
    private static let remember = RedisScript(
        """
        if redis.call('HLEN', KEYS[1]) >= 32 then
            local known = redis.call('HGETALL', KEYS[1])
            for i = 1, #known, 2 do
                if tonumber(string.match(known[i + 1], ' (%d+)$') or '0') <= tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], known[i]) end
            end
            if redis.call('HLEN', KEYS[1]) >= 256 then return 0 end
        end
        local count, till = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+)$')
        if not till or tonumber(till) <= tonumber(ARGV[3]) then count = 0 end
        redis.call('HSET', KEYS[1], ARGV[1], (count + 1) .. ' ' .. ARGV[2])
        return redis.call('EXPIRE', KEYS[1], ARGV[4])
        """)

    // ARGV: this edge, and when it is dead. Answers the time, whether this edge was forgotten or dead, and the living with
    // their last beats.
    private static let heartbeat = RedisScript(
        """
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
        local forgotten = (not before or tonumber(before) < now - tonumber(ARGV[2])) and 1 or 0
        redis.call('ZADD', KEYS[1], now, ARGV[1])
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 600000)
        local answer = redis.call('ZRANGEBYSCORE', KEYS[1], now - tonumber(ARGV[2]), '+inf', 'WITHSCORES')
        table.insert(answer, 1, tostring(now))
        table.insert(answer, 2, forgotten)
        return answer
        """)

    /// Once a second. Answers when this edge knows who lives: true when Redis had not heard of it, so that its leases must be taken again.
    public func beat() -> EventLoopFuture<Bool> {
        self.releaseMissed()
        if self.state.withLock({ $0.hasLeft }) { return self.redis.eventLoop.makeSucceededFuture(false) }
        return self.beatNow()
    }

    /// Once the last stream is gone: nobody asks this edge any more, as they would until its heartbeat is old. Its heart beats no more.
    public func leave() {
        self.releaseMissed()
        self.state.withLock { $0.hasLeft = true }
        // What Redis does not hear of now, it learns from the age of the heartbeat.
        _ = self.redis.send(RedisCommand("ZREM", .string(self.names.edges), .string(self.incarnation)))
    }

    private func beatNow() -> EventLoopFuture<Bool> {
        let now = NIODeadline.now()
        return self.redis.run(Self.heartbeat, keys: [self.names.edges], arguments: [.string(self.incarnation), .integer(Self.deadMilliseconds)]).map { value in
            guard let values = value.array, values.count >= 2, let time = values[0].int else { return true }
            self.state.withLock {
                $0.lastBeat = max($0.lastBeat ?? now, now)
                let pairs = values.dropFirst(2).compactMap(\.string)
                $0.beats = stride(from: 0, to: pairs.count - 1, by: 2).compactMap { at in Int64(pairs[at + 1]).map { (pairs[at], $0) } }
                $0.asOf = time
                // Not when it was asked: Redis may have stood still in between.
                $0.lookedAt = .now()
            }
            return values[1].int == 1
        }
    }

    private func call(_ lease: Lease, fingerprint: String, mode: Mode) -> (keys: [String], arguments: [RedisArgument]) {
        let state = self.state.withLock { $0 }
        let now = Timestamp.now().microseconds / 1000
        var arguments: [RedisArgument] = [
            .string(lease.member(edge: self.incarnation)), .integer(lease.openedAt.microseconds / 1000), .integer(Int64(self.limit)),
            .string(mode.rawValue), .string(fingerprint), .integer(now), .integer(Self.lifetimeSeconds),
            .integer(state.asOf - Self.deadMilliseconds),
        ]
        arguments.append(.string(self.incarnation))
        arguments.append(contentsOf: state.alive.filter { $0 != self.incarnation }.map { .string($0) })
        return ([self.names.leases(lease.user), self.names.evictions(lease.user)], arguments)
    }

    /// Takes a place. Who must go for it is told through its edge's control channel. With Redis away everyone is let in, and counted.
    ///
    /// - Parameter fingerprint: of an automatic reconnect: the same as ``evicted(_:fingerprint:)`` was told.
    public func acquire(_ lease: Lease, fingerprint: String?) -> EventLoopFuture<LeaseAnswer> {
        let call = self.call(lease, fingerprint: fingerprint ?? "", mode: self.mode)
        return self.redis.run(Self.acquire, keys: call.keys, arguments: call.arguments).map { value in
            self.answer(value, lease.user)
        }.flatMapErrorThrowing { _ in
            self.ungoverned.add(1, ordering: .relaxed)
            return .granted
        }
    }

    /// Takes the places of open streams again, after Redis may have forgotten them, or before it would. Answers which of this edge's own
    /// streams are over their user's limit and must go; those of other edges are told.
    ///
    /// Fails with ``RedisError`` when Redis, or one of its shards, did not take all of them.
    public func reassert(_ leases: [Lease]) -> EventLoopFuture<[Control]> {
        self.redis.run(Self.acquire, calls: leases.map { self.call($0, fingerprint: "", mode: .evict) }).flatMapThrowing { values in
            if let error = values.lazy.compactMap(\.error).first { throw error }
            var own: [Control] = []
            for (lease, value) in zip(leases, values) {
                let surplus = Self.surplus(value)
                own += surplus.filter { $0.edge == self.incarnation }.map { .evict(lease.user, connection: $0.connection) }
                self.tell(surplus.filter { $0.edge != self.incarnation }, of: lease.user)
            }
            return own
        }
    }

    private func answer(_ value: RedisValue, _ user: UserID) -> LeaseAnswer {
        switch value.array?.first?.string {
        case "refused": return .refused
        case "evicted": return .evictedBefore
        default:
            self.tell(Self.surplus(value), of: user)
            return .granted
        }
    }

    /// Members that lost their place.
    private static func surplus(_ value: RedisValue) -> [(edge: String, connection: String)] {
        guard let values = value.array, values.first?.string == "granted" else { return [] }
        return values.dropFirst().compactMap { value in
            value.string.flatMap { Lease.parse(member: $0) }.map { ($0.edge, $0.connection) }
        }
    }

    private func tell(_ surplus: [(edge: String, connection: String)], of user: UserID) {
        if surplus.isEmpty { return }
        let commands = surplus.map {
            RedisCommand("PUBLISH", .string(self.names.control(edge: $0.edge)), .string(Control.evict(user, connection: $0.connection).text))
        }
        self.redis.pipeline(commands).whenFailure { error in
            // That edge takes its leases again once its control channel is back, and finds out then.
            self.logger.debug("an eviction was not told", metadata: ["error": "\(error)"])
        }
    }

    /// An answer for somebody who waits at that list, for a few seconds.
    func push(_ text: String, to list: String) {
        self.redis.pipeline([RedisCommand("RPUSH", .string(list), .string(text)), RedisCommand("EXPIRE", .string(list), 10)]).whenFailure { error in
            // Whoever asked waits in vain, and says so.
            self.logger.debug("a question was not answered", metadata: ["error": "\(error)"])
        }
    }

    /// When this edge last told Redis that it lives, as far as it knows.
    public var lastBeat: NIODeadline? { self.state.withLock { $0.lastBeat } }

    /// Tells the edge that holds this stream. False when no edge does.
    public func tell(_ control: Control, connection: String) -> EventLoopFuture<Bool> {
        self.redis.send(RedisCommand("ZRANGE", .string(self.names.leases(control.user)), 0, -1)).flatMap { value in
            let members = (value.array ?? []).compactMap(\.string)
            guard let member = members.first(where: { $0.hasSuffix("/" + connection) }), let slash = member.firstIndex(of: "/") else {
                return self.redis.eventLoop.makeSucceededFuture(false)
            }
            let edge = String(member[..<slash])
            return self.redis.send(RedisCommand("PUBLISH", .string(self.names.control(edge: edge)), .string(control.text))).map { ($0.int ?? 0) > 0 }
        }
    }

    /// Gives places back. What Redis does not hear of now is said again with a later heartbeat.
    public func release(_ leases: [Lease]) {
        if leases.isEmpty { return }
        guard self.redis.isReachable else {
            self.miss(leases)
            return
        }
        self.redis.pipeline(
            leases.map { RedisCommand("ZREM", .string(self.names.leases($0.user)), .string($0.member(edge: self.incarnation))) }
        ).whenComplete { result in
            switch result {
            case .success(let values): self.miss(zip(leases, values).filter { $0.1.error != nil }.map(\.0))
            case .failure: self.miss(leases)
            }
        }
    }

    private func miss(_ leases: [Lease]) {
        if leases.isEmpty { return }
        self.state.withLock {
            if $0.missed.count + leases.count <= Self.missedBound { $0.missed.formUnion(leases) }
        }
    }

    private func releaseMissed() {
        guard self.redis.isReachable else { return }
        let missed = self.state.withLock { state in
            let missed = state.missed
            state.missed = []
            return missed
        }
        self.release(Array(missed))
    }

    /// Remembers for a minute that this stream was closed for being over the limit.
    public func evicted(_ user: UserID, fingerprint: String) {
        let now = Timestamp.now().microseconds / 1000
        self.redis.run(
            Self.remember, keys: [self.names.evictions(user)],
            arguments: [
                .string(fingerprint), .integer(now + Self.evictionMilliseconds), .integer(now), .integer(Self.evictionMilliseconds / 1000 + 5),
            ]
        ).whenFailure { error in
            // Its reconnect takes a place, and the oldest loses one.
            self.logger.debug("an eviction is not remembered", metadata: ["error": "\(error)"])
        }
    }
}

/// A message to one edge.
public enum Control: Sendable, Equatable {
    /// That stream is over its user's limit.
    case evict(UserID, connection: String)
    /// That stream's token was renewed: until when it is good (seconds since 1970), and for which customers.
    case renew(UserID, connection: String, expiresAt: Int64, customers: [String]?)

    public var user: UserID {
        switch self {
        case .evict(let user, _), .renew(let user, _, _, _): user
        }
    }

    var text: String {
        let json: JSONValue =
            switch self {
            case .evict(let user, let connection):
                .array([.string("evict"), .string(user.value), .string(connection)])
            case .renew(let user, let connection, let expiresAt, let customers):
                .array([
                    .string("renew"), .string(user.value), .string(connection), .number(String(expiresAt)),
                    customers.map { .array($0.map { .string($0) }) } ?? .null,
                ])
            }
        return String(decoding: json.encoded, as: UTF8.self)
    }

    init?(_ text: String) {
        guard let json = try? JSONParser.parse(Array(text.utf8)), case .array(let parts) = json, parts.count >= 2,
            let user = parts[1].string.flatMap({ UserID($0) })
        else { return nil }
        switch (parts[0].string, parts.count) {
        case ("evict", 3):
            guard let connection = parts[2].string else { return nil }
            self = .evict(user, connection: connection)
        case ("renew", 5):
            guard let connection = parts[2].string, case .number(let digits) = parts[3], let expiresAt = Int64(digits) else { return nil }
            var customers: [String]?
            if case .array(let values) = parts[4] { customers = values.compactMap(\.string) }
            self = .renew(user, connection: connection, expiresAt: expiresAt, customers: customers)
        default: return nil
        }
    }
}

/// That a ticket is used once. With Redis away a ticket is good for as long as it lives.
public struct TicketLedger: Sendable {
    private let redis: RedisClient
    private let names: RedisNames

    public init(redis: RedisClient, names: RedisNames) {
        self.redis = redis
        self.names = names
    }

    /// True the first time.
    public func redeem(_ nonce: String) -> EventLoopFuture<Bool> {
        self.redis.send(RedisCommand("SET", .string(self.names.ticket(nonce)), "1", "NX", "EX", 60)).map { $0.string != nil }
            .flatMapErrorThrowing { _ in true }
    }
}
