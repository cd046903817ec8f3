import NIOCore
import Testing

@testable import RedisClient

@Suite("The greeting")
struct GreetingTests {
    static func names(_ url: String, _ purpose: ConnectionPurpose) throws -> [[RedisArgument]] {
        Greeting(endpoint: try RedisEndpoint(url: url), for: purpose).commands.map { [.string($0.name)] + $0.arguments }
    }

    @Test("it says who we are, which database, and PING, as far as the endpoint names them")
    func commands() throws {
        #expect(try Self.names("redis://h", .commands) == [["PING"]])
        #expect(try Self.names("redis://:p@h/2", .commands) == [["AUTH", "p"], ["SELECT", 2], ["PING"]])
        #expect(try Self.names("redis://u:p@h/2", .subscriptions) == [["AUTH", "u", "p"], ["PING"]])
    }

    @Test("only OK to everything and PONG at last let the connection be used")
    func progress() throws {
        let greeting = Greeting(endpoint: try RedisEndpoint(url: "redis://:secret@h/2"), for: .commands)
        var good = greeting
        #expect(good.received(.status("OK")) == .more)
        #expect(good.received(.status("OK")) == .more)
        #expect(good.received(.status("PONG")) == .done)

        let refusal = RedisError(code: .server, message: "WRONGPASS invalid username-password pair")
        var refused = greeting
        #expect(refused.received(.error(refusal)) == .failed(refusal))

        var early = greeting
        guard case .failed(let error) = early.received(.status("PONG")) else {
            Issue.record("PONG answered AUTH")
            return
        }
        #expect(error.code == .protocolViolation)
    }

    @Test("where only a master will do, the server must say that it is one")
    func role() throws {
        let greeting = Greeting(endpoint: RedisEndpoint(host: "h", password: "p"), for: .commands, role: .master)
        #expect(greeting.commands.map(\.name) == ["AUTH", "PING", "ROLE"])
        for (role, expected) in [("master", true), ("slave", false), ("sentinel", false)] {
            var one = greeting
            #expect(one.received(.status("OK")) == .more)
            #expect(one.received(.status("PONG")) == .more)
            #expect((one.received(.array([.bulk(ByteBuffer(string: role)), .integer(0)])) == .done) == expected)
        }
        var early = greeting
        #expect(early.received(.array([.bulk(ByteBuffer(string: "master"))])) != .more)
    }

    @Test("a replica is refused where writes are wanted, and a user that may not ask is let in")
    func writable() throws {
        let greeting = Greeting(endpoint: RedisEndpoint(host: "h"), for: .commands, role: .writable)
        #expect(greeting.commands.map(\.name) == ["PING", "ROLE"])
        let answers: [(RedisValue, Bool)] = [
            (.array([.bulk(ByteBuffer(string: "master")), .integer(0)]), true), (.array([.bulk(ByteBuffer(string: "slave"))]), false),
            (.error(RedisError(code: .server, message: "NOPERM this user has no permissions to run the 'role' command")), true),
        ]
        for (answer, expected) in answers {
            var one = greeting
            #expect(one.received(.status("PONG")) == .more)
            #expect((one.received(answer) == .done) == expected)
        }
        var loading = greeting
        #expect(loading.received(.error(RedisError(code: .server, message: "LOADING"))) != .more)
    }

    @Test(
        "an error that repeats the password does not become the reason",
        arguments: [
            ("s3cret", "ERR unknown command 'AUTH', with args beginning with: 's3cret' ", "ERR"), ("s3cret", "WRONGPASS s3cret is wrong", "WRONGPASS"),
            ("WRONG", "WRONGPASS no", "ERR"), (String(repeating: "long", count: 50), "ERR unknown command 'AUTH', with args beginning with: 'longlonglonglonglon", "ERR"),
        ]
    )
    func secrecy(password: String, message: String, code: String) {
        var greeting = Greeting(endpoint: RedisEndpoint(host: "h", password: password), for: .watch)
        guard case .failed(let error) = greeting.received(.error(RedisError(code: .server, message: message))) else {
            Issue.record("an error that fails nothing")
            return
        }
        #expect(error.serverCode == code && error.code == .server)
        #expect(!error.message.contains(password.prefix(16)) && error.message.contains("check user and password"))
    }
}
