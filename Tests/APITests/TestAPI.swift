import Authentication
import Gateway
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NotificationBus
import NotificationCore
import NotificationStore
import PostgresClient
import RedisClient
import Synchronization
import TestServers
import Testing

@testable import API

/// Counts from the database.
private struct StoredCounts: CountSource {
    let reader: InboxReader

    func head(of user: UserID) async throws(StoreError) -> InboxHead { try await self.reader.head(of: user) }
}

private struct NobodyListens: CommitObserver {
    func committed(_ users: [CommittedChanges], done: @escaping @Sendable () -> Void) { done() }
}

/// An answer, taken apart.
struct Answer: Sendable {
    var status: Int
    var headers: HTTPHeaders
    var body: [UInt8]

    var text: String { String(decoding: self.body, as: UTF8.self) }
    var json: JSONValue { (try? JSONParser.parse(self.body)) ?? .null }

    func number(_ names: String...) -> Int? {
        guard case .number(let digits)? = names.reduce(self.json, { $0?[$1] }) else { return nil }
        return Int(digits)
    }

    /// The members of an array.
    func list(_ name: String) -> [JSONValue] {
        guard case .array(let values)? = self.json[name] else { return [] }
        return values
    }

    var code: String? { self.json["code"]?.string }
}

/// The role `api` on a free port, with a database of its own.
struct TestAPI: Sendable {
    private static let secret = "a secret that only the tests know, of enough bytes"

    let address: SocketAddress
    let key: String
    private let server: GatewayServer
    let writer: InboxWriter
    let recipients: RecipientReader
    let database: PostgresConfiguration
    let pool: PostgresPool

    /// - Parameter postgres: nil stands for the server of all tests.
    static func run(on postgres: PostgresServer? = nil, _ body: (TestAPI) async throws -> Void) async throws {
        let api = try await TestAPI(postgres ?? .shared())
        do {
            try await body(api)
        } catch {
            await api.end()
            throw error
        }
        await api.end()
    }

    private init(_ postgres: PostgresServer) async throws {
        let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        let configuration = PostgresConfiguration(url: postgres.url(database: try postgres.makeDatabase()))
        let connection = PostgresConnection(configuration: configuration, name: "migrations", logger: logger)
        connection.start()
        try await connection.waitUntilConnected()
        _ = try await Migrator(connection: connection).run()
        await connection.close()
        self.database = configuration
        self.pool = PostgresPool(configuration: configuration, size: 2, name: "reads", logger: logger)
        self.pool.start()
        try await self.pool.waitUntilConnected()
        self.writer = InboxWriter(configuration: configuration, identity: ClusterIdentity(), observer: NobodyListens(), logger: logger)
        self.writer.start()
        self.recipients = RecipientReader(configuration: configuration, identity: ClusterIdentity(), logger: logger)
        self.recipients.start()
        while !self.writer.isAvailable || !self.recipients.isAvailable { await Task.yield() }
        let keys = APIKeyStore(pool: self.pool)
        self.key = try await keys.create(name: "test", scopes: [.notify, .direct, .contacts]).key
        let origins = Origins(["https://app.example.com"])
        let credentials = Credentials(
            verifier: try TokenVerifier(configuration: TokenConfiguration(secret: Self.secret), logger: logger), keys: keys,
            tickets: TicketSigner(secret: Array(Self.secret.utf8)), cookieName: "carillon_token", origins: origins)
        var safe = Catalogue.Event()
        safe.required = [.email]
        let catalogue = try Catalogue([
            Catalogue.Kind(name: "chat", aliases: ["chats"], events: ["message_received": Catalogue.Event(), "safe": safe]), Catalogue.Kind(name: "task"),
        ])
        let reader = InboxReader(pool: self.pool)
        // Never started: as if Redis were away.
        let redis = RedisClient(endpoint: RedisEndpoint(host: "127.0.0.1"), eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: logger)
        let planner = NotifyPlanner(recipients: self.recipients)
        let runner = JobRunner(
            store: JobStore(pool: self.pool), idempotency: IdempotencyStore(pool: self.pool), writer: self.writer, planner: planner,
            catalogue: { catalogue }, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        let api = API(
            writer: self.writer, reader: reader, idempotency: IdempotencyStore(pool: self.pool), counts: StoredCounts(reader: reader),
            events: DirectEvents(redis: redis, names: RedisNames(prefix: "test")), credentials: credentials,
            notifier: Notifier(planner: planner, writer: self.writer), recipients: Recipients(pool: self.pool, reader: self.recipients),
            sent: SentNotifications(pool: self.pool, writer: self.writer), jobs: runner,
            audit: AuditStore(pool: self.pool), catalogue: { catalogue }, logger: logger)
        let router = GatewayRoutes.makeRouter()
        api.addRoutes(to: router)
        var routes = GatewayRoutes(origins: origins, fallback: router.buildResponder())
        api.addPlainRoutes(to: &routes)
        self.server = GatewayServer(
            configuration: GatewayConfiguration(host: "127.0.0.1", port: 0, nodeName: "test"), routes: routes,
            group: MultiThreadedEventLoopGroup.singleton, logger: logger)
        self.address = try await self.server.start()
    }

    private func end() async {
        await self.server.shutdown()
        await self.writer.close()
        await self.recipients.close()
        await self.pool.close()
    }

    func token(_ user: String, customers: [String]? = nil) throws -> String {
        try TokenMinter(secret: Self.secret, issuer: nil, audience: nil)
            .mint(user: user, role: nil, customers: customers, ttlSeconds: 600, now: Timestamp.now().seconds)
    }

    // MARK: Requests

    func notify(_ body: String, key: String? = nil) async throws -> Answer {
        try await self.ask("POST", "/v1/internal/notify", ["authorization": "Bearer \(key ?? self.key)"], body)
    }

    func ask(_ method: String, _ path: String, token: String, _ body: String? = nil) async throws -> Answer {
        try await self.ask(method, path, ["authorization": "Bearer \(token)"], body)
    }

    func ask(_ method: String, _ path: String, _ headers: HTTPHeaders = [:], _ body: String? = nil) async throws -> Answer {
        let collector = Collector()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(collector)
                }
            }
            .connect(to: self.address).get()
        var headers = headers
        headers.add(name: "host", value: "127.0.0.1")
        headers.add(name: "connection", value: "close")
        headers.add(name: "content-length", value: String(body?.utf8.count ?? 0))
        let head = HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method), uri: path, headers: headers)
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        if let body { channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(string: body))), promise: nil) }
        try await channel.writeAndFlush(HTTPClientRequestPart.end(nil))
        try await channel.closeFuture.get()
        return collector.answer.withLock { $0 }
    }

    private final class Collector: ChannelInboundHandler, Sendable {
        typealias InboundIn = HTTPClientResponsePart

        let answer = Mutex(Answer(status: 0, headers: [:], body: []))

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let part = Self.unwrapInboundIn(data)
            self.answer.withLock { answer in
                switch part {
                case .head(let head):
                    answer.status = Int(head.status.code)
                    answer.headers = head.headers
                case .body(let buffer): answer.body += Array(buffer.readableBytesView)
                case .end: break
                }
            }
        }
    }
}
