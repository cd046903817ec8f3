import Testing

@testable import RedisClient

@Suite("Redis URLs")
struct RedisEndpointTests {
    @Test(
        "a URL names the server and who to be there",
        arguments: [
            ("redis://localhost", RedisEndpoint(host: "localhost")),
            ("redis://localhost/", RedisEndpoint(host: "localhost")),
            ("redis://127.0.0.1:6380/3", RedisEndpoint(host: "127.0.0.1", port: 6380, database: 3)),
            ("rediss://cache.example", RedisEndpoint(host: "cache.example", usesTLS: true)),
            ("redis://:secret@cache", RedisEndpoint(host: "cache", password: "secret")),
            ("redis://app:s%40%2Fcret@cache:1/0", RedisEndpoint(host: "cache", port: 1, username: "app", password: "s@/cret")),
            ("redis://app:a@b:c@cache", RedisEndpoint(host: "cache", username: "app", password: "a@b:c")),
            ("redis://[::1]:7000/1", RedisEndpoint(host: "::1", port: 7000, database: 1)),
            ("redis://[fe80::1]", RedisEndpoint(host: "fe80::1")),
            ("redis://:%F0%9F%94%91@cache", RedisEndpoint(host: "cache", password: "🔑")),
        ]
    )
    func valid(url: String, expected: RedisEndpoint) throws {
        #expect(try RedisEndpoint(url: url) == expected)
    }

    @Test(
        "anything else is refused",
        arguments: [
            "", "localhost", "http://localhost", "redis:/localhost", "redis://", "redis://:6379", "redis://host:", "redis://host:0", "redis://host:65536",
            "redis://host:6a", "redis://host:+1", "redis://host/x", "redis://host/-1", "redis://host/1/2", "redis://host?db=1", "redis://host/1#x",
            "redis://user@host", "redis://user:@host", "redis://:%zz@host", "redis://:%4@host", "redis://:%FF@host", "redis://[::1", "redis://[::1]x",
        ]
    )
    func invalid(url: String) {
        #expect { try RedisEndpoint(url: url) } throws: { ($0 as? RedisError)?.code == .invalidURL }
    }

    @Test("no description shows the password")
    func secrecy() throws {
        let endpoint = try RedisEndpoint(url: "rediss://app:hush@[::1]:7000/2")
        #expect(endpoint.description == "rediss://[::1]:7000/2")
        var dumped = ""
        dump(endpoint, to: &dumped)
        #expect(!"\(endpoint) \(String(reflecting: endpoint)) \(dumped)".contains("hush"))
    }
}
