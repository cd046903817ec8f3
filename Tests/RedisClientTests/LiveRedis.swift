import Foundation
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import TestServers

@testable import RedisClient

/// A redis-server of a test's own, on a free port and in a folder that goes with it. Tests end with `kill()`, which also keeps it alive until
/// then; a test that throws leaves it to `deinit`.
final class LiveRedis: Sendable {
    let port: Int
    let folder: URL
    private let arguments: [String]
    private let process = NIOLockedValueBox<Process?>(nil)

    init(_ arguments: [String] = [], tls: Bool = false) async throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "redis-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        port = try FreePort.next()
        var all = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", folder.path]
        if tls {
            try Self.makeCertificate(in: folder)
            all += [
                "--port", "0", "--tls-port", "\(port)", "--tls-cert-file", folder.appending(path: "cert.pem").path, "--tls-key-file",
                folder.appending(path: "key.pem").path, "--tls-auth-clients", "no",
            ]
        } else {
            all += ["--port", "\(port)"]
        }
        self.arguments = all + arguments
        try start()
    }

    /// A server that is told by a file, which it may write: a sentinel or a node of a cluster.
    init(port: Int, configuration: String, _ arguments: [String] = []) throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "redis-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.port = port
        let file = folder.appending(path: "redis.conf")
        let all = "port \(port)\nbind 127.0.0.1\ndir \(folder.path)\n\(configuration)\n"
        try all.write(to: file, atomically: true, encoding: .utf8)
        self.arguments = [file.path] + arguments
        try start()
    }

    deinit {
        if let running = process.withLockedValue({ $0 }), running.isRunning { Foundation.kill(running.processIdentifier, SIGKILL) }
        // Nothing depends on the folder being gone.
        try? FileManager.default.removeItem(at: folder)
    }

    var endpoint: RedisEndpoint { RedisEndpoint(host: "127.0.0.1", port: port) }

    func start() throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["redis-server"] + arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process.withLockedValue { $0 = process }
    }

    /// SIGKILL; returns once the process is gone.
    func kill() async {
        guard let process = process.withLockedValue({ $0 }) else { return }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            DispatchQueue.global().async {
                Foundation.kill(process.processIdentifier, SIGKILL)
                process.waitUntilExit()
                continuation.resume()
            }
        }
    }

    func pause() { signal(SIGSTOP) }
    func resume() { signal(SIGCONT) }

    private func signal(_ number: Int32) {
        if let process = process.withLockedValue({ $0 }) { Foundation.kill(process.processIdentifier, number) }
    }

    private static func makeCertificate(in folder: URL) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder.appending(path: "key.pem").path, "-out", folder.appending(path: "cert.pem").path,
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw RedisError(code: .tls, message: "openssl could not make a certificate") }
    }
}

/// Things that happen, for a test to wait for in order.
final class Events<Event: Sendable>: Sendable {
    private let stream: AsyncStream<Event>
    let continuation: AsyncStream<Event>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream()
    }

    func add(_ event: Event) { continuation.yield(event) }

    /// The next event that satisfies; those before it are gone.
    /// - Throws: `CancellationError` when the test's time is over.
    func first(where isWanted: (Event) -> Bool) async throws -> Event {
        for await event in stream where isWanted(event) { return event }
        throw CancellationError()
    }
}

/// Hands log messages to a test.
struct EventLog: LogHandler {
    let events: Events<String>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        events.add("\(event.level) \(event.message) \(event.metadata ?? [:])")
    }
}

/// A started client and what it says.
final class LiveClient: Sendable {
    let client: RedisClient
    let states = Events<Bool>()
    let log = Events<String>()

    convenience init(_ endpoint: RedisEndpoint, _ configuration: RedisClientConfiguration = .init()) {
        self.init(.server(endpoint), configuration)
    }

    init(_ deployment: RedisDeployment, _ configuration: RedisClientConfiguration = .init()) {
        let log = log, states = states
        client = RedisClient(
            deployment: deployment, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), configuration: configuration,
            logger: Logger(label: "test") { _ in EventLog(events: log) }
        )
        client.onStateChange { states.add($0) }
        client.start()
    }

    static func available(_ endpoint: RedisEndpoint, _ configuration: RedisClientConfiguration = .init()) async throws -> LiveClient {
        try await available(.server(endpoint), configuration)
    }

    static func available(_ deployment: RedisDeployment, _ configuration: RedisClientConfiguration = .init()) async throws -> LiveClient {
        let live = LiveClient(deployment, configuration)
        try await live.becomes(true)
        return live
    }

    func becomes(_ isAvailable: Bool) async throws { _ = try await states.first { $0 == isAvailable } }

    func send(_ name: String, _ arguments: RedisArgument...) async throws -> RedisValue {
        try await client.send(RedisCommand(name: name, arguments: arguments)).get()
    }
}

extension RedisConnectionConfiguration {
    /// Notices silence within a fraction of a second.
    static var quick: Self {
        var configuration = Self()
        configuration.silence = .milliseconds(300)
        configuration.probeInterval = .milliseconds(50)
        configuration.backoffMaximum = .milliseconds(200)
        return configuration
    }
}

extension RedisConnectionConfiguration {
    /// For tests in which a silence that is none would be a fault: several servers share a machine that may be busy.
    static var patient: Self {
        var configuration = Self()
        configuration.silence = .seconds(3)
        configuration.probeInterval = .milliseconds(100)
        configuration.backoffMaximum = .milliseconds(200)
        return configuration
    }
}

extension RedisClientConfiguration {
    /// For what an operator asks of any server.
    static var admin: Self {
        var configuration = Self()
        configuration.acceptsReplica = true
        return configuration
    }

    static var patient: Self {
        var configuration = Self()
        configuration.connection = .patient
        return configuration
    }

    static var quick: Self {
        var configuration = Self()
        configuration.connection = .quick
        return configuration
    }
}

/// Looks until it is so; the suite's time limit is the bound. Between two looks the server has a moment to come nearer to it.
func until(_ isSo: () async throws -> Bool) async throws {
    while try await !isSo() { try await Task.sleep(for: .milliseconds(20)) }
}

/// What a failed call threw.
func failure(_ body: () async throws -> some Sendable) async -> RedisError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? RedisError
    }
}
