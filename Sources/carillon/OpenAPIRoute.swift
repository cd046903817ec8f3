import API
import Foundation
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import Yams

/// `GET /openapi.json`: the description of all routes (OpenAPI 3.1), the same on every node whatever its roles.
struct OpenAPIRoute: PlainRoute {
    private let document: ByteBuffer
    private let tag: String

    /// - Throws: ``SettingError`` when the file is not beside the program.
    init() throws {
        let bytes = try OpenAPIDocument.load().encoded
        self.document = ByteBuffer(bytes: bytes)
        self.tag = EntityTag.make(bytes)
    }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        var headers: HTTPHeaders = ["etag": self.tag, "cache-control": "no-cache"]
        if EntityTag.matches(request.head.headers[canonicalForm: "if-none-match"], self.tag) {
            return eventLoop.makeSucceededFuture(GatewayResponse(status: .notModified, headers: headers))
        }
        headers.add(name: "content-type", value: "application/json")
        return eventLoop.makeSucceededFuture(GatewayResponse(status: .ok, headers: headers, body: self.document))
    }
}

/// The description as it is written, in YAML, and as it is answered, in JSON.
enum OpenAPIDocument {
    static func load() throws -> JSONValue {
        guard let file = Bundle.module.url(forResource: "openapi", withExtension: "yaml") else {
            throw SettingError("openapi.yaml", "is not beside the program: install its .resources folder with it")
        }
        guard let root = try Yams.compose(yaml: String(contentsOf: file, encoding: .utf8)) else { throw SettingError("openapi.yaml", "is empty") }
        return try self.json(root)
    }

    /// The JSON of a YAML document (YAML 1.2, 10.2), in the order in which it is written. `<<` adds what its mapping has and this one has not.
    static func json(_ node: Node) throws -> JSONValue {
        switch node {
        case .sequence(let sequence):
            return .array(try sequence.map { try self.json($0) })
        case .mapping(let mapping):
            var members: [(name: String, value: JSONValue)] = []
            var inherited: [(name: String, value: JSONValue)] = []
            for (key, value) in mapping {
                guard let name = key.scalar?.string else { throw SettingError("openapi.yaml", "a key is not a word\(Self.place(key))") }
                if name == "<<" {
                    guard case .object(let more) = try self.json(value) else { throw SettingError("openapi.yaml", "<< needs a mapping\(Self.place(key))") }
                    inherited += more
                } else {
                    members.append((name, try self.json(value)))
                }
            }
            let own = Set(members.map(\.name))
            return .object(members + inherited.filter { !own.contains($0.name) })
        case .scalar(let scalar):
            switch node.tag.description {
            case Tag.Name.null.rawValue: return .null
            case Tag.Name.bool.rawValue: return .bool(scalar.string.lowercased() == "true")
            case Tag.Name.int.rawValue, Tag.Name.float.rawValue: return .number(scalar.string)
            default: return .string(scalar.string)
            }
        case .alias:
            // The composer has put what it stands for in its place.
            throw SettingError("openapi.yaml", "an alias stands for nothing\(Self.place(node))")
        }
    }

    private static func place(_ node: Node) -> String { node.mark.map { " (line \($0.line))" } ?? "" }
}
