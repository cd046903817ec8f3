import AsyncHTTPClient
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import Testing
import Yams

@testable import carillon

@Suite("OpenAPI", .timeLimit(.minutes(2)))
struct OpenAPITests {
    private static let methods: Set<String> = ["get", "put", "post", "delete", "patch", "head", "options", "trace"]

    private func operations(in document: JSONValue) throws -> [ServedRoute: JSONValue] {
        guard case .object(let paths)? = document["paths"] else { throw SettingError("openapi.yaml", "has no paths") }
        var operations: [ServedRoute: JSONValue] = [:]
        for (path, item) in paths {
            guard case .object(let members) = item else { continue }
            for (method, operation) in members where Self.methods.contains(method) {
                operations[ServedRoute(method: method.uppercased(), path: path)] = operation
            }
        }
        return operations
    }

    @Test("the description has every route of the node, and no other")
    func routes() async throws {
        let described = Set(try self.operations(in: OpenAPIDocument.load()).keys)
        try await RunningNode.run(["CARILLON_DEMO": "on"]) { node in
            #expect(node.routes.count > 15)
            #expect(node.routes.filter { !described.contains($0) } == [], "not described")
            #expect(described.subtracting(node.routes).sorted() == [], "described, and not there")
        }
    }

    @Test("each route is said to belong to the role of the nodes that have it", arguments: ["api", "edge", "worker"])
    func roles(role: String) async throws {
        let described = try self.operations(in: OpenAPIDocument.load()).filter { $0.value["x-role"]?.string ?? role == role }
        try await RunningNode.run(roles: role, ["CARILLON_DEMO": "on"]) { node in
            #expect(Set(node.routes) == Set(described.keys))
        }
    }

    @Test("a node answers it whatever its roles, with a tag, and 304 to those who have it", arguments: ["api", "edge", "worker"])
    func answer(role: String) async throws {
        let document = try OpenAPIDocument.load()
        try await RunningNode.run(roles: role) { node in
            var request = HTTPClientRequest(url: node.url + "/openapi.json")
            let first = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
            let body = try await first.body.collect(upTo: 1 << 20)
            #expect(first.status == .ok)
            #expect(first.headers["content-type"] == ["application/json"])
            #expect(try JSONParser.parse(Array(body.readableBytesView)) == document)
            request.headers.add(name: "if-none-match", value: try #require(first.headers.first(name: "etag")))
            let second = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
            #expect(second.status == .notModified)
            #expect(try await second.body.collect(upTo: 1).readableBytes == 0)
        }
    }

    @Test("YAML becomes the JSON that it stands for, in its order", arguments: [
        ("a: 1", #"{"a":1}"#), ("a: '1'", #"{"a":"1"}"#), ("[yes it is, null, ~, true, 1.5]", #"["yes it is",null,null,true,1.5]"#),
        ("z: &z {b: 2}\na: *z", #"{"z":{"b":2},"a":{"b":2}}"#), ("z: &z {b: 2, c: 3}\na: {<<: *z, c: 4}", #"{"z":{"b":2,"c":3},"a":{"c":4,"b":2}}"#),
        ("a: 2026-11-21", #"{"a":"2026-11-21"}"#), ("'200': >-\n  one\n  line", #"{"200":"one line"}"#),
    ])
    func yaml(example: (yaml: String, json: String)) throws {
        let node = try #require(try Yams.compose(yaml: example.yaml))
        #expect(String(decoding: try OpenAPIDocument.json(node).encoded, as: UTF8.self) == example.json)
    }

    @Test("YAML that no JSON stands for is refused", arguments: ["[a]: 1", "a: {<<: 1}"])
    func noJSON(yaml: String) throws {
        let node = try #require(try Yams.compose(yaml: yaml))
        #expect(throws: SettingError.self) { try OpenAPIDocument.json(node) }
    }
}
