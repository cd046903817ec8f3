import Foundation
import NIOCore
import NIOPosix

/// Kills, freezes, stops and starts the servers of a `deploy/local` cluster.
struct ClusterControl: Sendable {
    struct Server: Sendable {
        let name: String
        let address: SocketAddress
    }

    let script: LocalScript
    let servers: [String: Server]
    let shape: ClusterShape
    let environment: ClusterEnvironment

    /// Looks at a cluster that is up and ready.
    static func find(_ script: LocalScript) async throws -> ClusterControl {
        let status: String
        do { status = try await script.run(["status"], seconds: 60) } catch {
            throw LoadtestError.environment("The cluster is not ready", "Start it with '\(script.path) up' and try again")
        }
        var servers: [String: Server] = [:]
        for line in status.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ")
            guard words.count == 5, let port = Int(words[2]) else { continue }
            let name = String(words[0])
            servers[name] = Server(name: name, address: try SocketAddress(ipAddress: "127.0.0.1", port: port))
        }
        func count(_ role: String) -> Int { servers.keys.count { $0.hasPrefix(role + "-") } }
        let environment = ClusterEnvironment(values: ClusterEnvironment.exports(try await script.run(["env"], seconds: 30)))
        return ClusterControl(
            script: script, servers: servers, shape: ClusterShape(apis: count("api"), edges: count("edge"), workers: count("worker")),
            environment: environment
        )
    }

    var edges: [String] { (1...max(1, shape.edges)).map { "edge-\($0)" } }

    func kill(_ name: String) async throws { _ = try await script.run(["kill", name], seconds: 60) }
    func stop(_ name: String) async throws { _ = try await script.run(["stop", name], seconds: 90) }

    /// Starts it and returns when it is ready.
    func start(_ name: String, _ options: [String] = []) async throws { _ = try await script.run(["start", name] + options, seconds: 150) }

    /// Starts it and returns when it accepts connections, which is when the fault is over.
    ///
    /// One that has ended meanwhile, because something that it needs was away, is started again, as a supervisor would.
    /// - Returns: How often it had to be started more than once.
    func startAccepting(_ name: String) async throws -> Int {
        var starts = 0
        var failure = ""
        let deadline = monotonicNow() + 120_000_000_000
        while monotonicNow() < deadline {
            do {
                _ = try await script.run(["start", name, "--no-wait"], seconds: 90)
                starts += 1
            } catch {
                failure = " (\(error))"
            }
            let patience = monotonicNow() + 2_000_000_000
            repeat {
                if await accepts(name) { return starts - 1 }
                try? await Task.sleep(for: .milliseconds(20))
            } while monotonicNow() < patience
            if try await pid(name) != nil, starts > 0 { starts -= 1 }
        }
        throw LoadtestError.environment("\(name) does not accept connections 120 s after its start\(failure)", "See '\(script.path) logs \(name)'")
    }

    /// Whether it accepts connections: a database, sessions.
    func accepts(_ name: String) async -> Bool {
        guard let server = servers[name] else { return false }
        return await ServerProbe.accepts(server.address, startup: name == "postgres")
    }

    func pid(_ name: String) async throws -> Int32? {
        try await processes().first { $0.name == name }?.pid
    }

    /// Those that run now.
    func processes() async throws -> [WatchedProcess] {
        let said = ClusterEnvironment(values: ClusterEnvironment.exports(try await script.run(["env"], seconds: 30)))
        return WatchedProcess.parse(said.list("CARILLON_PIDS"))
    }

    /// Stops every process of it, and answers which.
    func freeze(_ name: String) async throws -> [Int32] {
        guard let pid = try await pid(name) else { throw LoadtestError.environment("\(name) does not run", "See '\(script.path) status'") }
        Foundation.kill(pid, SIGSTOP)
        // A stopped parent makes no more children, so that the list is complete.
        let children = Self.children(of: pid)
        for child in children { Foundation.kill(child, SIGSTOP) }
        return [pid] + children
    }

    static func thaw(_ pids: [Int32]) {
        for pid in pids { Foundation.kill(pid, SIGCONT) }
    }

    /// Postgres' sessions (proc(5): the parent is the fourth field, after a name that may hold anything).
    private static func children(of parent: Int32) -> [Int32] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { Int32($0) }.filter { pid in
            guard let line = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let name = line.lastIndex(of: ")") else { return false }
            let fields = line[line.index(after: name)...].split(separator: " ")
            return fields.count > 1 && fields[1] == "\(parent)"
        }
    }
}

/// Whether something accepts connections.
enum ServerProbe {
    /// With `startup`, Postgres must ask for the password, which it does not before it has recovered (Frontend/Backend Protocol 3.0).
    static func accepts(_ address: SocketAddress, startup: Bool) async -> Bool {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        do {
            let channel = try await ClientBootstrap(group: loop).connectTimeout(.seconds(1)).connect(to: address).get()
            guard startup else {
                // Closed by the other side already is closed.
                try? await channel.close()
                return true
            }
            let promise = loop.makePromise(of: Bool.self)
            try await channel.pipeline.addHandler(StartupAnswer(promise)).get()
            loop.scheduleTask(in: .seconds(1)) { channel.close(promise: nil) }
            var message = ByteBuffer()
            let parameters = "user\0carillon\0database\0carillon\0\0"
            message.writeInteger(Int32(8 + parameters.utf8.count))
            message.writeInteger(Int32(196_608))
            message.writeString(parameters)
            channel.writeAndFlush(message, promise: nil)
            let answer = try await promise.futureResult.get()
            try? await channel.close()
            return answer
        } catch {
            return false
        }
    }

    private final class StartupAnswer: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer

        private let promise: EventLoopPromise<Bool>

        init(_ promise: EventLoopPromise<Bool>) { self.promise = promise }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            promise.succeed(unwrapInboundIn(data).readableBytesView.first == UInt8(ascii: "R"))
        }

        func channelInactive(context: ChannelHandlerContext) { promise.succeed(false) }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { promise.succeed(false) }
    }
}
