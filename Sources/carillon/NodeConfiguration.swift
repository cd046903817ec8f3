import Authentication
import Foundation
import Gateway
import Logging
import NIOCore
import NotificationBus
import NotificationCore
import PostgresClient
import RedisClient

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// All settings of a node, checked.
struct NodeConfiguration: Sendable {
    var roles: Set<Role>
    var host: String
    var port: Int
    var name: String
    var database: PostgresConfiguration
    var redis: RedisDeployment
    var redisTLS: RedisTLS
    var redisPrefix: String
    var tokens: TokenConfiguration
    var catalogue: LiveCatalogue
    var origins: [String]
    var trustedProxies: [IPRange]
    var cookieName: String
    var connectionLimit: Int
    var connectionLimitMode: Leases.Mode
    var maximumConnections: Int
    var drainSeconds: Int
    var pingSeconds: Int
    var stalledSeconds: Int
    var retentionDays: Int
    var demo: Bool
    var metricsToken: String?
    var logLevel: Logger.Level
    var threads: Int
    var lanes: Int
    var jobRest: Double
    var rateLimits: RateLimiter.Settings
    var channels: Channels
    var queue: QueueSettings
    var deliveryAttempts: Int
    var deliveryBackoffSeconds: Int
    var deliveryConcurrency: Int
    var deliveryLeaseSeconds: Int
    var intake: IntakeSettings

    init(settings: Settings, roles: String? = nil, port: Int? = nil, host: String? = nil, nodeName: String? = nil) throws {
        self.roles = try Settings.roles(roles ?? settings.text("CARILLON_ROLES") ?? "all")
        self.host = try host ?? settings.text("CARILLON_HOST") ?? "127.0.0.1"
        self.port = try port ?? settings.number("CARILLON_PORT", default: 8080, in: 0...65535)
        self.name = try nodeName ?? settings.text("CARILLON_NODE_NAME") ?? ProcessInfo.processInfo.hostName
        self.database = try Self.database(settings)
        self.redis = try Self.redis(settings)
        self.redisTLS = try Self.redisTLS(settings)
        self.redisPrefix = try settings.text("CARILLON_REDIS_PREFIX") ?? "carillon"
        self.tokens = try Self.tokens(settings)
        self.catalogue = try LiveCatalogue(path: settings.text("CARILLON_CATALOGUE"))
        self.origins = try settings.list("CARILLON_CORS_ORIGINS")
        self.trustedProxies = try settings.list("CARILLON_TRUSTED_PROXIES").map { text in
            guard let range = IPRange(text) else { throw SettingError("CARILLON_TRUSTED_PROXIES", "\(text) is no range of addresses, such as 10.1.0.0/16") }
            return range
        }
        self.cookieName = try settings.text("CARILLON_COOKIE_NAME") ?? "carillon_token"
        self.connectionLimit = try settings.number("CARILLON_CONNECTION_LIMIT", default: 10, in: 1...10_000)
        self.connectionLimitMode = try settings.choice("CARILLON_CONNECTION_LIMIT_MODE", default: .evict)
        self.maximumConnections = try settings.number(
            "CARILLON_MAX_CONNECTIONS", default: Self.connectionsByDescriptors(), in: 1...10_000_000)
        self.drainSeconds = try settings.number("CARILLON_DRAIN_SECONDS", default: 20, in: 0...3600)
        self.pingSeconds = try settings.number("CARILLON_PING_SECONDS", default: 30, in: 1...3600)
        self.stalledSeconds = try settings.number("CARILLON_STALLED_SECONDS", default: 60, in: 1...3600)
        self.retentionDays = try settings.number("CARILLON_RETENTION_DAYS", default: 90, in: 1...36_500)
        self.demo = try settings.flag("CARILLON_DEMO")
        self.metricsToken = try settings.text("CARILLON_METRICS_TOKEN")
        self.logLevel = try Self.logLevel(settings)
        self.threads = try settings.number("CARILLON_THREADS", default: min(64, System.coreCount), in: 1...64)
        self.lanes = try settings.number("CARILLON_LANES", default: 4, in: 1...64)
        self.jobRest = Double(try settings.number("CARILLON_JOB_REST", default: 200, in: 0...10_000)) / 100
        self.rateLimits = RateLimiter.Settings(
            key: try settings.limit("CARILLON_RATE_LIMIT_KEY", default: 60_000, in: 1...1_000_000_000),
            user: try settings.limit("CARILLON_RATE_LIMIT_USER", default: 6000, in: 1...1_000_000_000))
        self.channels = try Channels(settings: settings)
        self.queue = try QueueSettings(settings)
        self.deliveryAttempts = try settings.number("CARILLON_DELIVERY_ATTEMPTS", default: 12, in: 1...100)
        self.deliveryBackoffSeconds = try settings.number("CARILLON_DELIVERY_BACKOFF_SECONDS", default: 10, in: 0...3600)
        self.deliveryConcurrency = try settings.number("CARILLON_DELIVERY_CONCURRENCY", default: 64, in: 1...10_000)
        self.deliveryLeaseSeconds = try settings.number("CARILLON_DELIVERY_LEASE_SECONDS", default: 15, in: 3...3600)
        self.intake = try IntakeSettings(settings)
    }

    static func database(_ settings: Settings) throws -> PostgresConfiguration {
        var configuration = PostgresConfiguration(url: try settings.required("CARILLON_DATABASE_URL"))
        configuration.applicationName = "carillon"
        configuration.pooler = try settings.choice("CARILLON_DATABASE_POOLER", default: .auto)
        do { try configuration.validate() } catch { throw SettingError("CARILLON_DATABASE_URL", error.message) }
        return configuration
    }

    static func logLevel(_ settings: Settings) throws -> Logger.Level { try settings.choice("CARILLON_LOG_LEVEL", default: .info) }

    static func redis(_ settings: Settings) throws -> RedisDeployment {
        let url = try settings.required("CARILLON_REDIS_URL")
        do { return try RedisDeployment(url: url) } catch { throw SettingError("CARILLON_REDIS_URL", error.message) }
    }

    /// The certificates of `rediss://`. They are read for each connection; here only so that a wrong one stops the start.
    static func redisTLS(_ settings: Settings) throws -> RedisTLS {
        var files = RedisTLS()
        files.authorities = try settings.text("CARILLON_REDIS_CA_FILE")
        files.certificate = try settings.text("CARILLON_REDIS_CERTIFICATE_FILE")
        files.key = try settings.text("CARILLON_REDIS_KEY_FILE")
        for (name, path) in [
            ("CARILLON_REDIS_CA_FILE", files.authorities), ("CARILLON_REDIS_CERTIFICATE_FILE", files.certificate), ("CARILLON_REDIS_KEY_FILE", files.key),
        ] {
            guard let path else { continue }
            guard try Self.redis(settings).usesTLS else { throw SettingError(name, "is of no use with a CARILLON_REDIS_URL without TLS: write rediss") }
            guard FileManager.default.isReadableFile(atPath: path) else { throw SettingError(name, "\(path) cannot be read") }
        }
        if (files.certificate == nil) != (files.key == nil) {
            throw SettingError(files.key == nil ? "CARILLON_REDIS_KEY_FILE" : "CARILLON_REDIS_CERTIFICATE_FILE", "is missing: a certificate needs its key")
        }
        do { try files.check() } catch { throw SettingError("CARILLON_REDIS_CA_FILE, CARILLON_REDIS_CERTIFICATE_FILE, CARILLON_REDIS_KEY_FILE", error.message) }
        return files
    }

    static func tokens(_ settings: Settings) throws -> TokenConfiguration {
        var tokens = TokenConfiguration()
        tokens.secret = try settings.text("CARILLON_JWT_SECRET")
        tokens.publicKeyPEM = try settings.text("CARILLON_JWT_PUBLIC_KEY")
        tokens.jwks = try settings.text("CARILLON_JWT_JWKS")
        tokens.issuer = try settings.text("CARILLON_JWT_ISSUER")
        tokens.audience = try settings.text("CARILLON_JWT_AUDIENCE")
        tokens.leeway = try settings.number("CARILLON_JWT_LEEWAY", default: 0, in: 0...300)
        return tokens
    }

    /// What the limit of file descriptors allows, less a reserve for servers, files, and requests that are refused.
    static func connectionsByDescriptors() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1000 }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let descriptors = Int(min(UInt64(limit.rlim_cur), 10_000_000))
        return max(100, descriptors - max(200, descriptors / 20))
    }

    /// - Parameter level: of all loggers, now and whenever it changes; nil: the configured one for good.
    func makeLogger(level: LiveLogLevel? = nil) -> Logger {
        let (name, level) = (self.name, level ?? LiveLogLevel(self.logLevel))
        LoggingSystem.bootstrap { JSONLogHandler(label: $0, node: name, level: level) }
        return Logger(label: "carillon")
    }
}

/// How much a node takes in from clients, and how long it waits for it.
struct IntakeSettings: Sendable {
    var headerBytes: Int
    var bodyBytes: Int
    var publishBodyBytes: Int
    var heldBodyBytes: Int
    var headSeconds: Int
    var bodySeconds: Int
    var idleSeconds: Int

    init(_ settings: Settings) throws {
        self.headerBytes = try settings.number("CARILLON_HEADER_BYTES", default: 16 << 10, in: 4 << 10...1 << 20)
        self.bodyBytes = try settings.number("CARILLON_BODY_BYTES", default: 1 << 20, in: 64 << 10...64 << 20)
        self.publishBodyBytes = try settings.number("CARILLON_PUBLISH_BODY_BYTES", default: 4 << 20, in: 64 << 10...64 << 20)
        self.heldBodyBytes = try settings.number("CARILLON_HELD_BODY_BYTES", default: 128 << 20, in: 8 << 20...64 << 30)
        self.headSeconds = try settings.number("CARILLON_HEAD_SECONDS", default: 10, in: 1...3600)
        self.bodySeconds = try settings.number("CARILLON_BODY_SECONDS", default: 30, in: 1...3600)
        self.idleSeconds = try settings.number("CARILLON_IDLE_SECONDS", default: 75, in: 1...3600)
        if self.heldBodyBytes / 2 < max(self.bodyBytes, self.publishBodyBytes) {
            throw SettingError("CARILLON_HELD_BODY_BYTES", "must be at least twice CARILLON_BODY_BYTES and CARILLON_PUBLISH_BODY_BYTES")
        }
    }

    func apply(to configuration: inout GatewayConfiguration) {
        configuration.headerLimit = self.headerBytes
        configuration.bodyLimit = self.bodyBytes
        configuration.publishBodyLimit = self.publishBodyBytes
        configuration.heldBodies = self.heldBodyBytes
        configuration.heldSmallBodies = self.heldBodyBytes / 2
        configuration.headTimeout = .seconds(Int64(self.headSeconds))
        configuration.bodyTimeout = .seconds(Int64(self.bodySeconds))
        configuration.idleTimeout = .seconds(Int64(self.idleSeconds))
    }
}
