public import Foundation

/// A private PostgreSQL server for tests: its own folder, a free port of 127.0.0.1, durable as in production. It ends with the process that started
/// it, also when that crashes.
public final class PostgresServer: @unchecked Sendable {
    // @unchecked: everything mutable is under `lock`.

    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// One for the whole test process, started on first use. Tests that stop or kill a server start one of their own.
    public static func shared() throws -> PostgresServer { try sharedResult.get() }
    private static let sharedResult = Result { try PostgresServer() }

    public let folder: URL
    public let port: Int
    private let lock = NSLock()
    private var process: Process?
    private var guardian: Process?
    private var log = ""

    /// Makes a fresh cluster and starts it.
    /// - Parameter settings: further lines of `postgresql.conf`.
    public init(settings: [String: String] = [:]) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("pg-\(UUID().uuidString.prefix(8))")
        port = try FreePort.next()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        if getuid() == 0 { try Self.run("/bin/chown", ["postgres:", folder.path]) }
        AtExit.register(self)
        try run(
            "initdb", ["--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"])
        var lines = [
            "listen_addresses = '127.0.0.1'", "port = \(port)", "unix_socket_directories = '\(folder.path)'", "lc_messages = 'C'", "max_connections = 500",
            "shared_buffers = '64MB'", "fsync = on", "full_page_writes = on", "synchronous_commit = on", "log_min_messages = 'error'",
        ]
        lines += settings.map { "\($0.key) = '\($0.value)'" }
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: data + "/postgresql.conf"))
        try file.seekToEnd()
        try file.write(contentsOf: Data(("\n" + lines.joined(separator: "\n") + "\n").utf8))
        try file.close()
        try start()
    }

    deinit {
        end()
    }

    // MARK: Addresses

    public func url(database: String = "postgres") -> String { "postgres://postgres@127.0.0.1:\(port)/\(database)" }
    /// Through the Unix socket.
    public func socketURL(database: String = "postgres") -> String { "host=\(folder.path) port=\(port) user=postgres dbname=\(database)" }

    /// The postmaster's.
    public var pid: Int32? { lock.withLock { process?.processIdentifier } }
    /// What the server has written to its log.
    public var logText: String { lock.withLock { log } }

    // MARK: Its life

    /// Starts it, or starts it again, and returns when it accepts connections.
    public func start() throws {
        let errors = Pipe()
        let process = Self.asUser(Self.binary("postgres"), ["-D", data])
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        // The pipe's writing end must be the server's alone, or its end would go unnoticed.
        try? errors.fileHandleForWriting.close()
        let guardian = guardian(of: process.processIdentifier)
        try guardian.run()
        lock.withLock {
            self.process = process
            self.guardian = guardian
        }
        let ready = DispatchSemaphore(value: 0)
        let outcome = Outcome()
        let reading = errors.fileHandleForReading
        Thread.detachNewThread { [weak self] in
            while true {
                let data = reading.availableData
                if data.isEmpty { break }
                let text = String(decoding: data, as: UTF8.self)
                self?.append(text)
                if outcome.add(text) { ready.signal() }
            }
            ready.signal()
        }
        ready.wait()
        guard outcome.isReady else {
            end()
            throw Failure(description: "PostgreSQL did not start:\n\(outcome.text)")
        }
    }

    /// A fast shutdown: sessions are ended, everything is written.
    public func stop() {
        signalAndWait([SIGINT])
    }

    /// `kill -9` of the server and its sessions, all at once.
    public func kill() {
        signalAndWait([SIGKILL], withChildren: true)
    }

    /// Everything of the server stands still (SIGSTOP). Its kernel still accepts TCP connections.
    public func pause() {
        for pid in processes() { Foundation.kill(pid, SIGSTOP) }
    }

    public func resume() {
        for pid in processes() { Foundation.kill(pid, SIGCONT) }
    }

    public func restart() throws {
        stop()
        try start()
    }

    /// Runs SQL through psql and returns what it prints: rows by lines, columns by `|`.
    @discardableResult
    public func psql(_ sql: String, database: String = "postgres") throws -> String {
        try run("psql", ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", "\(port)", "-U", "postgres", "-d", database, "-c", sql])
    }

    /// A fresh database's name.
    public func makeDatabase() throws -> String {
        let name = "t_\(UUID().uuidString.prefix(8).lowercased())"
        try psql("CREATE DATABASE \(name)")
        return name
    }

    private var data: String { folder.path + "/data" }

    private func append(_ text: String) {
        lock.withLock { log += text }
    }

    fileprivate func end() {
        signalAndWait([SIGCONT, SIGQUIT], withChildren: true)
        try? FileManager.default.removeItem(at: folder)
    }

    private func signalAndWait(_ signals: [Int32], withChildren: Bool = false) {
        let (process, guardian) = lock.withLock {
            defer { (self.process, self.guardian) = (nil, nil) }
            return (self.process, self.guardian)
        }
        guard let process else { return }
        // Before the server, whose number may be given to another process after its end.
        if let guardian {
            Foundation.kill(guardian.processIdentifier, SIGKILL)
            guardian.waitUntilExit()
        }
        let pid = process.processIdentifier
        let all = withChildren ? [pid] + Self.children(of: pid) : [pid]
        for signal in signals {
            for pid in all { Foundation.kill(pid, signal) }
        }
        process.waitUntilExit()
    }

    private func processes() -> [Int32] {
        pid.map { [$0] + Self.children(of: $0) } ?? []
    }

    // MARK: Running programs

    private static let binaries: String = {
        let root = "/usr/lib/postgresql"
        let versions = ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).compactMap { Int($0) }.sorted()
        if let newest = versions.last { return "\(root)/\(newest)/bin" }
        return (try? run("/usr/bin/env", ["pg_config", "--bindir"]).trimmingCharacters(in: .whitespacesAndNewlines)) ?? ""
    }()

    private static func binary(_ name: String) -> String { "\(binaries)/\(name)" }

    /// PostgreSQL refuses to run as root.
    private static func asUser(_ program: String, _ arguments: [String]) -> Process {
        let process = Process()
        if getuid() == 0 {
            process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
            process.arguments = ["--reuid=postgres", "--regid=postgres", "--clear-groups", program] + arguments
        } else {
            process.executableURL = URL(fileURLWithPath: program)
            process.arguments = arguments
        }
        process.currentDirectoryURL = FileManager.default.temporaryDirectory
        return process
    }

    /// Waits for the end of our process, which closes the pipe, then ends the server and removes its folder.
    private func guardian(of pid: Int32) -> Process {
        let guardian = Process()
        guardian.executableURL = URL(fileURLWithPath: "/bin/sh")
        guardian.arguments = ["-c", "read line; kill -CONT $0; kill -QUIT $0; while kill -0 $0; do sleep 0.1; done; rm -rf $1", "\(pid)", folder.path]
        guardian.standardError = FileHandle.nullDevice
        guardian.standardInput = Pipe()
        return guardian
    }

    @discardableResult
    private func run(_ name: String, _ arguments: [String]) throws -> String {
        try Self.output(of: Self.asUser(Self.binary(name), arguments), name)
    }

    @discardableResult
    private static func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        return try output(of: process, program)
    }

    private static func output(of process: Process, _ name: String) throws -> String {
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        let text = String(decoding: data, as: UTF8.self)
        guard process.terminationStatus == 0 else { throw Failure(description: "\(name) failed: \(text)") }
        return text.trimmingCharacters(in: .newlines)
    }

    private static func children(of parent: Int32) -> [Int32] {
        let text = (try? String(contentsOfFile: "/proc/\(parent)/task/\(parent)/children", encoding: .utf8)) ?? ""
        return text.split(separator: " ").compactMap { Int32($0) }
    }
}

/// What the server says while it starts.
private final class Outcome: @unchecked Sendable {
    // @unchecked: everything mutable is under `lock`.
    private let lock = NSLock()
    private var said = ""

    var text: String { lock.withLock { said } }
    var isReady: Bool { text.contains(Self.sentence) }
    private static let sentence = "database system is ready to accept connections"

    /// True once, when the sentence is complete.
    func add(_ text: String) -> Bool {
        lock.withLock {
            if said.contains(Self.sentence) { return false }
            said += text
            return said.contains(Self.sentence)
        }
    }
}

/// Ends at exit what is still running.
private enum AtExit {
    private struct Server {
        weak var server: PostgresServer?
    }

    private static let lock = NSLock()
    nonisolated(unsafe) private static var servers: [Server] = []
    private static let hook: Void = { atexit { AtExit.endAll() } }()

    static func register(_ server: PostgresServer) {
        _ = hook
        lock.withLock { servers.append(Server(server: server)) }
    }

    private static func endAll() {
        for server in lock.withLock({ servers }) { server.server?.end() }
    }
}
