import NIOCore
import Testing

@testable import RedisClient

@Suite("Commands and scripts")
struct RedisCommandTests {
    @Test("a command is an array of binary-safe strings")
    func encoding() {
        var buffer = ByteBuffer()
        RedisCommand("SET", "🔔", .bytes(ByteBuffer(bytes: [0, 13, 10, 255])), "EX", -5).encode(into: &buffer)
        var expected = ByteBuffer(string: "*5\r\n$3\r\nSET\r\n$4\r\n🔔\r\n$4\r\n")
        expected.writeBytes([0, 13, 10, 255])
        expected.writeString("\r\n$2\r\nEX\r\n$2\r\n-5\r\n")
        #expect(buffer == expected)
    }

    @Test(
        "the bytes that count against the bound are never fewer than those on the wire",
        arguments: [
            RedisCommand("PING"), RedisCommand("GET", ""), RedisCommand("INCRBY", "k", .integer(.min)), RedisCommand("SET", "k", .string(String(repeating: "é", count: 100_000))),
            RedisCommand(name: "DEL", arguments: (0..<5000).map { .string("key:\($0)") }),
        ]
    )
    func estimate(command: RedisCommand) {
        var buffer = ByteBuffer()
        command.encode(into: &buffer)
        #expect(command.wireBytes >= buffer.readableBytes)
    }

    @Test("a script is known by the SHA-1 of its source")
    func sha1() {
        #expect(RedisScript("return 1").sha1 == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db")
        #expect(RedisScript("").sha1 == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
    }

    @Test("the first word of a server's error is its code")
    func codes() {
        #expect(RedisError(code: .server, message: "NOSCRIPT No matching script.").serverCode == "NOSCRIPT")
        #expect(RedisError(code: .server, message: "LOADING").serverCode == "LOADING")
        #expect(RedisError(code: .timedOut, message: "LOADING").serverCode == nil)
    }
}
