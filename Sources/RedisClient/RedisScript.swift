internal import Crypto

/// A Lua script. Its SHA-1, by which the server knows it, is computed once: make scripts static.
public struct RedisScript: Sendable, Hashable {
    public let source: String

    /// 40 lower-case hexadecimal digits, as EVALSHA takes them.
    public let sha1: String

    public init(_ source: String) {
        self.source = source
        let digits = Array("0123456789abcdef".utf8)
        // SHA-1 is the server's naming scheme here; nothing rests on its being secure.
        let hex = Insecure.SHA1.hash(data: Array(source.utf8)).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        sha1 = String(decoding: hex, as: UTF8.self)
    }

    func evalsha(keys: [String], arguments: [RedisArgument]) -> RedisCommand {
        command("EVALSHA", sha1, keys, arguments)
    }

    func eval(keys: [String], arguments: [RedisArgument]) -> RedisCommand {
        command("EVAL", source, keys, arguments)
    }

    private func command(_ name: String, _ script: String, _ keys: [String], _ arguments: [RedisArgument]) -> RedisCommand {
        var all: [RedisArgument] = []
        all.reserveCapacity(2 + keys.count + arguments.count)
        all.append(.string(script))
        all.append(.integer(Int64(keys.count)))
        for key in keys { all.append(.string(key)) }
        all.append(contentsOf: arguments)
        return RedisCommand(name: name, arguments: all)
    }
}
