import NIOCore
import Testing

@testable import RedisClient

@Suite("Slots of a cluster")
struct SlotTests {
    @Test(
        "a key's slot is that of its hash tag, if it has one that is not empty",
        arguments: [
            ("123456789", "{123456789}"), ("{user1000}.following", "{user1000}.followers"), ("foo{{bar}}zap", "{bar"), ("foo{bar}{zap}", "bar"),
            ("foo{}{bar}", "foo{}{bar}"), ("x{y", "x{y"), ("x}y{", "x}y{"), ("}{a}", "a"),
        ]
    )
    func tags(key: String, same: String) {
        // The tag of `{{bar}}` is `{bar`, which as a key of its own has no tag.
        #expect(HashSlot(key: key) == HashSlot(key: same))
    }

    @Test("slots are those of the specification", arguments: [("123456789", 12739), ("foo", 12182), ("", 0), ("bar", 5061), ("hello", 866)])
    func vectors(key: String, slot: Int) {
        #expect(Int(HashSlot(key: key).number) == slot)
    }

    @Test("every argument hashes by its bytes")
    func arguments() {
        #expect(RedisArgument.integer(42).slot == HashSlot(key: "42"))
        #expect(RedisArgument.bytes(ByteBuffer(string: "a{b}c")).slot == HashSlot(key: "b"))
        #expect(HashSlot(16384) == nil && HashSlot(-1) == nil && HashSlot(16383) != nil)
    }

    @Test("every slot has a tag", arguments: [0, 1, 5461, 16383])
    func tag(number: Int) throws {
        let slot = try #require(HashSlot(number))
        #expect(HashSlot(key: "p:{\(slot.tag)}x") == slot)
    }

    @Test("a command goes by its first key")
    func routes() {
        func slot(_ key: String) -> ClusterRoute { .slot(HashSlot(key: key)) }
        #expect(RedisCommand("GET", "k").route == slot("k"))
        #expect(RedisCommand("publish", "k", "GET").route == slot("k"))
        #expect(RedisCommand("EVALSHA", "sha", 2, "{u}a", "{u}b", "v").route == slot("u"))
        #expect(RedisCommand("EVAL", "return 1", 0, "v").route == .anywhere)
        #expect(RedisCommand("EVAL", "return 1", "0").route == .anywhere)
        #expect(RedisCommand("OBJECT", "ENCODING", "k").route == slot("k"))
        for name in ["PING", "INFO", "SCRIPT", "TIME", "GET"] { #expect(RedisCommand(name: name, arguments: []).route == .anywhere) }
        #expect(RedisCommand("INFO", "server").route == .anywhere)
        #expect(RedisCommand("PUBLISH", "k", "v").sharded == RedisCommand("SPUBLISH", "k", "v"))
        #expect(RedisCommand("SET", "k", "PUBLISH").sharded == RedisCommand("SET", "k", "PUBLISH"))
    }
}

@Suite("The map of the slots")
struct SlotMapTests {
    static let a = RedisAddress(host: "10.0.0.1", port: 1)
    static let b = RedisAddress(host: "10.0.0.2", port: 2)

    static func node(_ host: String?, _ port: Int64) -> RedisValue {
        .array([host.map { .bulk(ByteBuffer(string: $0)) } ?? .null, .integer(port), .bulk(ByteBuffer(string: "id")), .array([])])
    }

    static func range(_ first: Int64, _ last: Int64, _ nodes: RedisValue...) -> RedisValue { .array([.integer(first), .integer(last)] + nodes) }

    static func read(_ ranges: RedisValue...) -> SlotMap? { try? SlotMap.read(.array(ranges), asked: a).get() }

    static func slot(_ number: Int) throws -> HashSlot { try #require(HashSlot(number)) }

    @Test("ranges, replicas, and nodes that do not know their own name")
    func reading() throws {
        let map = try #require(Self.read(Self.range(0, 99, Self.node("10.0.0.2", 2), Self.node("10.0.0.3", 3)), Self.range(101, 16383, Self.node(nil, 7))))
        #expect(try map.owner(of: Self.slot(0)) == Self.b && map.owner(of: Self.slot(99)) == Self.b && map.owner(of: Self.slot(100)) == nil)
        #expect(try map.owner(of: Self.slot(16383)) == RedisAddress(host: "10.0.0.1", port: 7))
        #expect(!map.isComplete && map.masters.count == 2 && map.nodes.count == 3)
        #expect(Self.read(Self.range(0, 16383, Self.node("", 7)))?.isComplete == true)
        #expect(Self.read() == nil)
    }

    @Test("what is no map is a protocol violation, and a server's error stays its own")
    func wrong() {
        for reply: RedisValue in [
            .null, .integer(1), .array([.integer(1)]), .array([Self.range(0, 16384, Self.node("h", 1))]), .array([Self.range(5, 4, Self.node("h", 1))]),
            .array([Self.range(-1, 4, Self.node("h", 1))]), .array([Self.range(0, 4)]), .array([Self.range(0, 4, Self.node("h", 0))]),
            .array((0...HashSlot.count).map { Self.range(0, 0, Self.node("h\($0)", 1)) }),
        ] {
            guard case .failure(let error) = SlotMap.read(reply, asked: Self.a) else {
                Issue.record("taken for a map: \(reply)")
                continue
            }
            #expect(error.code == .protocolViolation)
        }
        let error = RedisError(code: .server, message: "ERR This instance has cluster support disabled")
        #expect(SlotMap.read(.error(error), asked: Self.a) == .failure(error))
    }

    @Test("maps are equal when they say the same, in whatever order")
    func equality() {
        let one = Self.read(Self.range(0, 9, Self.node("h", 1)), Self.range(10, 19, Self.node("h", 2)))
        let two = Self.read(Self.range(10, 19, Self.node("h", 2)), Self.range(0, 9, Self.node("h", 1)))
        let other = Self.read(Self.range(0, 9, Self.node("h", 2)), Self.range(10, 19, Self.node("h", 1)))
        #expect(one == two && one != other)
    }

    @Test("a server's word on one slot stands against maps that have not heard of it, for a while")
    func learning() throws {
        let (old, slot) = (try #require(Self.read(Self.range(0, 16383, Self.node("10.0.0.1", 1)))), try Self.slot(5))
        var new = old
        new.assign(slot, to: Self.b)
        let start = NIODeadline.uptimeNanoseconds(0)
        var map = LearnedSlotMap()
        #expect(map.answered(old, now: start) == .init(isChanged: true, isOutdated: false))
        #expect(map.answered(old, now: start) == .init(isChanged: false, isOutdated: false))
        let news = [map.moved(slot, to: Self.b, now: start), map.moved(slot, to: Self.b, now: start)]
        #expect(news == [true, false])
        #expect(map.current == new)
        #expect(map.answered(old, now: start) == .init(isChanged: false, isOutdated: false))
        // By now that node should know.
        #expect(map.answered(old, now: start + LearnedSlotMap.hearsay) == .init(isChanged: false, isOutdated: true))
        #expect(map.current == new)
        #expect(map.answered(old, now: start + LearnedSlotMap.trust) == .init(isChanged: true, isOutdated: false))
        #expect(map.current == old)
        _ = map.moved(slot, to: Self.b, now: start)
        #expect(map.answered(new, now: start) == .init(isChanged: false, isOutdated: false))
        // Confirmed once, the word is spent: what maps say counts again.
        #expect(map.answered(old, now: start) == .init(isChanged: true, isOutdated: false))
    }
}

@Suite("Commands that belong elsewhere")
struct RedirectionTests {
    static func read(_ message: String) -> Redirection? {
        Redirection(RedisError(code: .server, message: message), from: RedisAddress(host: "me", port: 1))
    }

    @Test("errors that send elsewhere are told from others")
    func reading() throws {
        let slot = try #require(HashSlot(3999))
        #expect(Self.read("MOVED 3999 127.0.0.1:6381") == .moved(slot, RedisAddress(host: "127.0.0.1", port: 6381)))
        #expect(Self.read("MOVED 3999 ::1:6381") == .moved(slot, RedisAddress(host: "::1", port: 6381)))
        #expect(Self.read("MOVED 3999 :6381") == .moved(slot, RedisAddress(host: "me", port: 6381)))
        #expect(Self.read("ASK 3999 node.example:1") == .ask(RedisAddress(host: "node.example", port: 1)))
        #expect(Self.read("TRYAGAIN Multiple keys request during rehashing of slot") == .tryAgain)
        #expect(Self.read("CLUSTERDOWN The cluster is down") == .down)
        for message in ["ERR MOVED", "MOVED", "MOVED x h:1", "MOVED 3999", "MOVED 16384 h:1", "MOVED 1 h:0", "MOVED 1 h", "ASK 1", "WRONGTYPE x", ""] {
            #expect(Self.read(message) == nil)
        }
        #expect(Redirection(RedisError(code: .connectionLost, message: "MOVED 1 h:1"), from: RedisAddress(host: "me", port: 1)) == nil)
    }

    @Test("no command goes to and fro for ever")
    func bounds() throws {
        let slot = try #require(HashSlot(1)), place = RedisAddress(host: "h", port: 1)
        for redirection: Redirection in [.moved(slot, place), .ask(place)] {
            var redirections = Redirections()
            for _ in 0..<Redirections.maximumMoves {
                #expect(redirections.next(redirection) == .send(to: place, asking: redirection == .ask(place)))
            }
            guard case .fail(let error) = redirections.next(redirection) else { return #expect(Bool(false)) }
            #expect(error.code == .unavailable)
        }
        var delayed = Redirections()
        var total = TimeAmount.zero
        for _ in 0..<Redirections.maximumDelays {
            guard case .sendAgain(let delay) = delayed.next(.tryAgain) else { return #expect(Bool(false)) }
            total = total + delay
        }
        #expect(total > .seconds(1) && total < .seconds(3))
        guard case .fail(let error) = delayed.next(.tryAgain) else { return #expect(Bool(false)) }
        #expect(error.code == .unavailable)
        var down = Redirections()
        #expect(down.next(.down) == .fail(.notServed))
    }
}
