import Foundation
import NotificationBus
import Yams

/// A setting that cannot be used: one line that names it.
struct SettingError: Error, CustomStringConvertible {
    let name: String
    let problem: String

    init(_ name: String, _ problem: String) {
        self.name = name
        self.problem = problem
    }

    var description: String { "\(self.name): \(self.problem)" }
}

enum Role: String, CaseIterable, Sendable {
    case api, edge, worker
}

/// The node's configuration: environment variables, the same names in a YAML file, and `NAME_FILE` for a value that lies in a file. The
/// environment counts before the file.
struct Settings: Sendable {
    private let environment: [String: String]
    private let file: [String: String]
    private let record: SettingsRecord?

    /// - Parameter record: told what each setting may be, for the reference.
    init(file path: String?, environment: [String: String] = ProcessInfo.processInfo.environment, record: SettingsRecord? = nil) throws {
        self.environment = environment
        self.record = record
        var file: [String: String] = [:]
        if let path {
            let text: String
            do { text = try String(contentsOfFile: path, encoding: .utf8) } catch { throw SettingError("--config", "\(path) cannot be read") }
            let root: Node?
            do { root = try Yams.compose(yaml: text) } catch { throw SettingError("--config", "\(path): \(error)") }
            guard let mapping = root?.mapping else { throw SettingError("--config", "\(path) must hold names and values") }
            for (key, value) in mapping {
                guard let name = key.string, Self.isName(name) || (name.hasSuffix("_FILE") && Self.isName(String(name.dropLast("_FILE".count)))) else {
                    throw SettingError(key.string ?? "--config", "is not a setting (\(path), line \(key.mark?.line ?? 0))")
                }
                file[name] = value.string ?? value.sequence?.compactMap(\.string).joined(separator: ",") ?? ""
            }
        }
        self.file = file
    }

    /// All that a file may hold.
    static let names: Set<String> = [
        "CARILLON_HOST", "CARILLON_PORT", "CARILLON_ROLES", "CARILLON_NODE_NAME", "CARILLON_DATABASE_URL", "CARILLON_REDIS_URL",
        "CARILLON_DATABASE_POOLER", "CARILLON_REDIS_CA_FILE", "CARILLON_REDIS_CERTIFICATE_FILE", "CARILLON_REDIS_KEY_FILE",
        "CARILLON_REDIS_PREFIX", "CARILLON_JWT_SECRET", "CARILLON_JWT_PUBLIC_KEY", "CARILLON_JWT_JWKS", "CARILLON_JWT_ISSUER",
        "CARILLON_JWT_AUDIENCE", "CARILLON_JWT_LEEWAY", "CARILLON_CATALOGUE", "CARILLON_CORS_ORIGINS", "CARILLON_COOKIE_NAME",
        "CARILLON_CONNECTION_LIMIT", "CARILLON_CONNECTION_LIMIT_MODE", "CARILLON_MAX_CONNECTIONS", "CARILLON_DRAIN_SECONDS",
        "CARILLON_PING_SECONDS", "CARILLON_STALLED_SECONDS", "CARILLON_RETENTION_DAYS", "CARILLON_DEMO", "CARILLON_METRICS_TOKEN",
        "CARILLON_LOG_LEVEL", "CARILLON_THREADS", "CARILLON_LANES", "CARILLON_JOB_REST", "CARILLON_RATE_LIMIT_KEY", "CARILLON_RATE_LIMIT_USER",
        "CARILLON_DELIVERY_ATTEMPTS", "CARILLON_DELIVERY_BACKOFF_SECONDS", "CARILLON_DELIVERY_CONCURRENCY",
        "CARILLON_DELIVERY_LEASE_SECONDS", "CARILLON_TRUSTED_PROXIES", "CARILLON_HEADER_BYTES", "CARILLON_BODY_BYTES", "CARILLON_PUBLISH_BODY_BYTES",
        "CARILLON_HELD_BODY_BYTES", "CARILLON_HEAD_SECONDS", "CARILLON_BODY_SECONDS", "CARILLON_IDLE_SECONDS",
    ]

    static var allNames: Set<String> { Self.names.union(SenderSettings.names).union(QueueSettings.names) }

    private static func isName(_ name: String) -> Bool { Self.allNames.contains(name) }

    /// Nil when it is absent or empty.
    func text(_ name: String) throws -> String? {
        for source in [self.environment, self.file] {
            if let value = source[name], !value.isEmpty { return value }
            if let path = source[name + "_FILE"], !path.isEmpty {
                return try Self.content(of: path, for: name + "_FILE")
            }
        }
        return nil
    }

    /// In bytes; a file of a value is a line, or a key.
    private static let fileBound = 64 * 1024

    /// Less the white space around it. What is said of a file that will not do never says what it holds.
    private static func content(of path: String, for name: String) throws -> String {
        let data: Data
        do {
            let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? handle.close() }
            data = try handle.read(upToCount: self.fileBound + 1) ?? Data()
        } catch let error as CocoaError where error.code == .fileReadNoSuchFile || error.code == .fileNoSuchFile {
            throw SettingError(name, "\(path): there is no such file")
        } catch let error as CocoaError where error.code == .fileReadNoPermission {
            throw SettingError(name, "\(path): this user may not read it")
        } catch {
            throw SettingError(name, "\(path) cannot be read")
        }
        if data.count > self.fileBound { throw SettingError(name, "\(path) has more than \(self.fileBound) bytes") }
        guard let text = String(validating: data, as: UTF8.self) else { throw SettingError(name, "\(path) is not UTF-8") }
        let value = text.trimmingCharacters(in: .whitespacesAndNewlines)
        if value.isEmpty { throw SettingError(name, "\(path) is empty") }
        return value
    }

    func required(_ name: String) throws -> String {
        guard let value = try self.text(name) else { throw SettingError(name, "is missing") }
        return value
    }

    func number(_ name: String, default fallback: Int, in range: ClosedRange<Int>) throws -> Int {
        self.record?.note(name, default: "\(fallback)", values: "\(range.lowerBound)–\(range.upperBound)")
        guard let text = try self.text(name) else { return fallback }
        guard let value = Int(text), range.contains(value) else {
            throw SettingError(name, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// Nil when it is switched off.
    func limit(_ name: String, default fallback: Int, in range: ClosedRange<Int>) throws -> Int? {
        self.record?.note(name, default: "\(fallback)", values: "\(range.lowerBound)–\(range.upperBound), `off`")
        guard let text = try self.text(name) else { return fallback }
        if text.lowercased() == "off" { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw SettingError(name, "must be off, or a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func flag(_ name: String) throws -> Bool {
        self.record?.note(name, default: "`off`", values: "`on`, `off`")
        switch try self.text(name)?.lowercased() {
        case nil, "off", "false", "no", "0": return false
        case "on", "true", "yes", "1": return true
        default: throw SettingError(name, "must be on or off")
        }
    }

    func choice<Value: RawRepresentable & CaseIterable>(_ name: String, default fallback: Value) throws -> Value where Value.RawValue == String {
        self.record?.note(name, default: "`\(fallback.rawValue)`", values: Value.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", "))
        guard let text = try self.text(name) else { return fallback }
        guard let value = Value(rawValue: text) else {
            throw SettingError(name, "must be one of " + Value.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return value
    }

    func list(_ name: String) throws -> [String] {
        try self.text(name)?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty } ?? []
    }

    static func roles(_ text: String) throws -> Set<Role> {
        if text == "all" { return Set(Role.allCases) }
        var roles: Set<Role> = []
        for part in text.split(separator: ",") {
            guard let role = Role(rawValue: part.trimmingCharacters(in: .whitespaces)) else {
                throw SettingError("CARILLON_ROLES", "must be all, or some of api, edge, worker")
            }
            roles.insert(role)
        }
        if roles.isEmpty { throw SettingError("CARILLON_ROLES", "must be all, or some of api, edge, worker") }
        return roles
    }
}
