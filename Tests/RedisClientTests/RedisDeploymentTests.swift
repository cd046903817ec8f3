import Testing

@testable import RedisClient

@Suite("The URL of a deployment")
struct RedisDeploymentTests {
    @Test("one server is an endpoint, as ever")
    func server() throws {
        #expect(try RedisDeployment(url: "redis://app:p@h:7/3") == .server(RedisEndpoint(host: "h", port: 7, username: "app", password: "p", database: 3)))
    }

    @Test("sentinels: their places, the master's name, who to be there and on the master")
    func sentinels() throws {
        guard case .sentinel(let full) = try RedisDeployment(
            url: "rediss+sentinel://app:a%40%2C@one:1,[::1],three:3/my%20master/4?sentinel_username=w&sentinel_password=%26x")
        else { return #expect(Bool(false)) }
        #expect(full.master == "my master")
        #expect(full.sentinels == [("one", 1), ("::1", 26379), ("three", 3)].map { RedisEndpoint(host: $0.0, port: $0.1, username: "w", password: "&x", usesTLS: true) })
        #expect(full.access.at(RedisAddress(host: "m", port: 9)) == RedisEndpoint(host: "m", port: 9, username: "app", password: "a@,", database: 4, usesTLS: true))
        guard case .sentinel(let bare) = try RedisDeployment(url: "redis+sentinel://s/m") else { return #expect(Bool(false)) }
        #expect(bare.sentinels == [RedisEndpoint(host: "s", port: 26379)] && bare.access.database == 0 && bare.access.password == nil)
    }

    @Test("a cluster: some of its nodes")
    func cluster() throws {
        guard case .cluster(let cluster) = try RedisDeployment(url: "redis+cluster://app:p@one:1,two/") else { return #expect(Bool(false)) }
        #expect(cluster.seeds == [("one", 1), ("two", 6379)].map { RedisEndpoint(host: $0.0, port: $0.1, username: "app", password: "p") })
    }

    @Test(
        "anything else is refused, and no password is repeated",
        arguments: [
            "sentinel://h/m", "redis+sentinel://", "redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel:///m", "redis+sentinel://a,,b/m",
            "redis+sentinel://a:x/m", "redis+sentinel://h/m/x", "redis+sentinel://h/m/1/2", "redis+sentinel://h/m?", "redis+sentinel://h/m?hush",
            "redis+sentinel://h/m?hush=1", "redis+sentinel://h/m?sentinel_username=u", "redis+sentinel://h/m?sentinel_password=",
            "redis+sentinel://h/m?sentinel_password=hush&sentinel_password=hush", "redis+sentinel://:hush@h/m#x", "redis+sentinel://u@h/m",
            "redis+sentinel://:hush@h/m?sentinel_password=%zz", "redis+cluster://", "redis+cluster://h/0", "redis+cluster://h,", "redis+cluster://:hush@h?x=hush",
            "redis://:hush@a,b", "redis://:hush@h?x=hush", "redis+cluster://:hush?x@h", "redis+cluster://:hush%@h",
        ]
    )
    func invalid(url: String) {
        #expect { try RedisDeployment(url: url) } throws: {
            guard let error = $0 as? RedisError else { return false }
            return error.code == .invalidURL && !error.message.contains("hush")
        }
    }

    @Test(
        "no description shows a password",
        arguments: [
            ("rediss://app:hush@[::1]:7/2", "rediss://[::1]:7/2"),
            ("redis+sentinel://app:hush@a,[::1]:7/m/2?sentinel_password=hush", "redis+sentinel://a:26379,[::1]:7/m/2"),
            ("rediss+cluster://:hush@a,b:7", "rediss+cluster://a:6379,b:7"),
        ]
    )
    func secrecy(url: String, description: String) throws {
        let deployment = try RedisDeployment(url: url)
        #expect(deployment.description == description)
        var dumped = ""
        dump(deployment, to: &dumped)
        #expect(!"\(deployment) \(String(reflecting: deployment)) \(dumped)".contains("hush"))
    }
}
