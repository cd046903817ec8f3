import ArgumentParser
import Authentication
import Delivery
import Foundation
import Logging
import NIOCore
import NIOPosix
import NotificationBus
import NotificationCore
import NotificationStore
import PostgresClient
import RedisClient

/// What commands print. Standard output is their answer, so nothing else goes there.
func answer(_ line: String) {
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
}

private func quiet() -> Logger {
    var logger = Logger(label: "carillon")
    logger.logLevel = .critical
    return logger
}

/// Answers the schema's version then, which is higher than this program's when a later one was there before.
@discardableResult
func migrateSchema(_ settings: Settings, logger: Logger) async throws -> Int {
    var configuration = try NodeConfiguration.database(settings)
    // It waits for the lock of another node's migration.
    configuration.statementTimeout = nil
    let connection = PostgresConnection(configuration: configuration, name: "migrate", logger: logger)
    connection.start()
    let version: Int
    do {
        try await connection.waitUntilConnected()
        let migrator = Migrator(connection: connection)
        for name in try await migrator.run() { logger.info("migration applied", metadata: ["migration": "\(name)"]) }
        version = try await migrator.version()
    } catch {
        await connection.close()
        throw error
    }
    await connection.close()
    return version
}

/// Runs the body with a pool that is connected within ten seconds.
/// - Parameter patient: waits a while for a server that is away; else the first attempt counts.
private func withPool<Value: Sendable>(_ settings: Settings, patient: Bool = true, _ body: (PostgresPool) async throws -> Value) async throws -> Value {
    let pool = PostgresPool(configuration: try NodeConfiguration.database(settings), size: 1, name: "command", logger: quiet())
    pool.start()
    let timeout = Task {
        let end = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < end, patient || pool.connectionError == nil { try await Task.sleep(for: .milliseconds(20)) }
        await pool.close()
    }
    let result: Result<Value, any Error>
    do {
        do {
            try await pool.waitUntilConnected()
        } catch {
            let reason = pool.connectionError.map { ": \($0)" } ?? ""
            throw SettingError("CARILLON_DATABASE_URL", "the database cannot be reached" + reason.replacing("\n", with: " "))
        }
        timeout.cancel()
        result = .success(try await body(pool))
    } catch {
        timeout.cancel()
        result = .failure(error)
    }
    await pool.close()
    return try result.get()
}

struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Brings the schema up to date. Safe from every node at once.")

    @OptionGroup var configuration: ConfigurationFile

    func run() async throws {
        let version = try await migrateSchema(self.configuration.settings(), logger: quiet())
        let known = try Migrator.known()
        answer(version > known ? "schema is newer than this program: version \(version), \(known) known" : "schema is up to date")
    }
}

struct APIKey: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apikey", abstract: "Makes, lists and revokes the applications' keys.", subcommands: [Create.self, List.self, Revoke.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a key and prints it: it is shown once.")

        @OptionGroup var configuration: ConfigurationFile
        @Option(help: "What the key is for.") var name: String
        @Option(help: "notify, direct, webhooks, contacts, admin, separated by commas.") var scopes: String

        func run() async throws {
            var scopes: Set<Scope> = []
            for word in self.scopes.split(separator: ",") {
                guard let scope = Scope(rawValue: word.trimmingCharacters(in: .whitespaces)) else {
                    throw ValidationError("\(word) is no scope: take some of \(Scope.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                scopes.insert(scope)
            }
            let (name, wanted) = (self.name, scopes)
            let key = try await withPool(self.configuration.settings()) { try await APIKeyStore(pool: $0).create(name: name, scopes: wanted).key }
            answer(key)
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Lists the keys, without themselves.")

        @OptionGroup var configuration: ConfigurationFile

        func run() async throws {
            for key in try await withPool(self.configuration.settings(), { try await APIKeyStore(pool: $0).list() }) {
                let state = key.revokedAt.map { "revoked \($0)" } ?? "valid"
                answer("\(key.id)  \(key.createdAt)  \(state)  \(key.scopes.map(\.rawValue).sorted().joined(separator: ","))  \(key.name)")
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Revokes a key: it ends within two seconds on every node.")

        @OptionGroup var configuration: ConfigurationFile
        @Argument(help: "The key's id, as the list shows it.") var id: String

        func run() async throws {
            guard let id = NotificationID(self.id) else { throw ValidationError("\(self.id) is no id") }
            guard try await withPool(self.configuration.settings(), { try await APIKeyStore(pool: $0).revoke(id) }) else {
                throw ValidationError("there is no valid key with this id")
            }
            answer("revoked")
        }
    }
}

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Mints a JWT with the configured secret, for development.")

    @OptionGroup var configuration: ConfigurationFile
    @Option(help: "The user; with --count its number is appended.") var user: String
    @Option(help: "A role, such as admin.") var role: String?
    @Option(help: "A customer that the token is limited to; may be repeated.") var customer: [String] = []
    @Option(help: "How long it is good: 90s, 15m, 1h, 7d.") var ttl = "1h"
    @Option(help: "Mints that many, for USER0, USER1, …") var count: Int?

    func run() async throws {
        let settings = try self.configuration.settings()
        let tokens = try NodeConfiguration.tokens(settings)
        guard let secret = tokens.secret else { throw SettingError("CARILLON_JWT_SECRET", "is needed to mint tokens") }
        guard let seconds = Self.seconds(self.ttl) else { throw ValidationError("--ttl must be a number with s, m, h or d") }
        let minter = TokenMinter(secret: secret, issuer: tokens.issuer, audience: tokens.audience)
        let now = Timestamp.now().seconds
        let customers = self.customer.isEmpty ? nil : self.customer
        guard let count else {
            answer(try minter.mint(user: self.user, role: self.role, customers: customers, ttlSeconds: seconds, now: now))
            return
        }
        guard (1...10_000_000).contains(count) else { throw ValidationError("--count must be 1 to 10000000") }
        var lines: [UInt8] = []
        for number in 0..<count {
            lines.append(
                contentsOf: try minter.mint(user: "\(self.user)\(number)", role: self.role, customers: customers, ttlSeconds: seconds, now: now).utf8)
            lines.append(UInt8(ascii: "\n"))
            if lines.count > 1 << 20 || number == count - 1 {
                FileHandle.standardOutput.write(Data(lines))
                lines.removeAll(keepingCapacity: true)
            }
        }
    }

    static func seconds(_ text: String) -> Int? {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        if let plain = Int(text), plain > 0 { return plain }
        guard let unit = text.last.flatMap({ units[$0] }), let number = Int(text.dropLast()), number > 0 else { return nil }
        return number.multipliedReportingOverflow(by: unit).overflow ? nil : number * unit
    }
}

struct Epoch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The life of the data that positions belong to.", subcommands: [Advance.self])

    struct Advance: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "After a restore: every stream and list starts anew.")

        @OptionGroup var configuration: ConfigurationFile

        func run() async throws {
            let epoch = try await withPool(self.configuration.settings()) { try await ClusterStore(pool: $0).advanceEpoch() }
            answer("epoch \(epoch)")
        }
    }
}

struct Secrets: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The secrets of webhooks, which the database keeps encrypted.", subcommands: [Reseal.self])

    struct Reseal: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Brings all of them under CARILLON_SECRETS_KEY, from CARILLON_SECRETS_KEY_OLD. Nodes may serve meanwhile.")

        @OptionGroup var configuration: ConfigurationFile

        func run() async throws {
            let settings = try self.configuration.settings()
            guard let box = try SenderSettings.secrets(settings) else { throw SettingError("CARILLON_SECRETS_KEY", "is missing") }
            let result = try await withPool(settings, patient: false) { try await SecretRotation(pool: $0, box: box).run() }
            answer("resealed \(result.resealed), under this key before \(result.current)")
            if let unreadable = result.unreadableError { throw unreadable }
        }
    }
}

extension SecretRotation.Result {
    /// Nil when there are none that no key opens.
    var unreadableError: SettingError? {
        guard let first = self.unreadable.first else { return nil }
        let others = self.unreadable.count > 1 ? " and \(self.unreadable.count - 1) more" : ""
        return SettingError("CARILLON_SECRETS_KEY", "is another one than when the secrets of webhook \(first)\(others) were encrypted, and no CARILLON_SECRETS_KEY_OLD opens them")
    }
}

struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Reads configuration and catalogue, reaches every server they name, and prints what works and what does not.")

    @OptionGroup var configuration: ConfigurationFile

    func run() async throws {
        let settings = try self.configuration.settings()
        var failures = 0
        func report(_ name: String, _ body: () async throws -> String) async {
            do {
                answer("ok      \(name): \(try await body())")
            } catch let error as CatalogueError {
                failures += 1
                answer("FAILED  \(name):")
                for line in error.lines { answer("        \(line)") }
            } catch {
                failures += 1
                answer("FAILED  \(name): \(error)")
            }
        }
        await report("settings") { "roles " + (try NodeConfiguration(settings: settings)).roles.map(\.rawValue).sorted().joined(separator: ",") }
        await report("tokens") {
            _ = try TokenVerifier(configuration: NodeConfiguration.tokens(settings), logger: quiet())
            return "keys are usable"
        }
        await report("catalogue") { try CatalogueFile.load(settings.text("CARILLON_CATALOGUE")).summary }
        await report("postgres") {
            try await withPool(settings, patient: false) { pool in
                try await ClusterStore(pool: pool).settings().map { "\($0.name)=\($0.value)" }.joined(separator: " ")
            }
        }
        await report("schema") {
            let connection = PostgresConnection(configuration: try NodeConfiguration.database(settings), name: "check", logger: quiet())
            let wanted = try Migrator.known()
            let found = try await withPool(settings, patient: false) { _ in
                connection.start()
                try await connection.waitUntilConnected()
                return try await Migrator(connection: connection).schema()
            }
            await connection.close()
            if found.number < wanted { throw SettingError("schema", "is at \(found.number) of \(wanted): run carillon migrate") }
            if let refusal = found.refusal(known: wanted) { throw refusal }
            return "version \(found.number)" + (found.number > wanted ? ", newer than this program, which knows \(wanted)" : "")
        }
        await report("webhook secrets") {
            guard let box = try SenderSettings.secrets(settings) else { return "no CARILLON_SECRETS_KEY, so no webhooks" }
            let result = try await withPool(settings, patient: false) { try await SecretRotation(pool: $0, box: box).run(changes: false) }
            if let unreadable = result.unreadableError { throw unreadable }
            return "\(result.current) under this key" + (result.resealed > 0 ? ", \(result.resealed) under the old one: run carillon secrets reseal" : "")
        }
        await report("redis") {
            let deployment = try NodeConfiguration.redis(settings)
            var connecting = RedisClientConfiguration()
            connecting.connection.tls = try NodeConfiguration.redisTLS(settings)
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let client = RedisClient(deployment: deployment, eventLoop: group.next(), configuration: connecting, logger: quiet())
            client.start()
            let deadline = ContinuousClock.now + .seconds(5)
            while !client.isAvailable, client.connectionError?.code != .tls, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(20)) }
            let reason = client.connectionError?.message ?? "no answer"
            let reachable = client.isAvailable
            // A user of Redis with no more rights than a node needs may not ask for it.
            let version = reachable ? try? await client.send(RedisCommand("INFO", "server")).get().string : nil
            try await client.shutdown().get()
            try await group.shutdownGracefully()
            if !reachable { throw SettingError("CARILLON_REDIS_URL", reason) }
            return version?.split(separator: "\r\n").first { $0.hasPrefix("redis_version") }.map(String.init) ?? "answers"
        }
        await report("queue") {
            guard let sqs = try QueueSettings(settings).sqs else { return "postgres" }
            guard let engine = TransferEngine(TransferEngine.Settings(certificates: try settings.text("CARILLON_CA_FILE"))) else {
                throw SettingError("queue", "the system has no memory, thread or file descriptor left")
            }
            var depths: [String] = []
            for queue in TaskQueue.all {
                do throws(SQSError) {
                    depths.append("\(queue.rawValue) \(try await SQSClient(engine: engine, place: sqs.place, name: queue.rawValue).depth().waiting)")
                } catch {
                    throw SettingError("CARILLON_SQS_URL", "\(queue.rawValue): \(error)")
                }
            }
            return "sqs, messages that wait: " + depths.joined(separator: ", ")
        }
        if failures > 0 { throw ExitCode(1) }
    }
}
