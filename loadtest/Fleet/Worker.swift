import Foundation
import NIOCore
import NIOPosix

/// A worker's side: it is told its share, then does what each line asks, and ends with the connection.
struct Worker: Sendable {
    /// What the first line has to know; nil for a child of the run, which nobody else can reach.
    let secret: String?

    /// - Parameter connect: makes the connection with the bootstrap it is given.
    func run(connect: @Sendable (ClientBootstrap) -> EventLoopFuture<any Channel>) async throws {
        let (lines, line) = AsyncStream.makeStream(of: Data.self)
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelInitializer { channel in
            Self.prepare(channel, line)
        }
        try await serve(lines, try await connect(bootstrap).get())
    }

    /// Serves one run after the other: two at once would measure each other.
    ///
    /// - Parameter bound: told where it listens.
    func listen(at address: SocketAddress, bound: (SocketAddress?) -> Void) async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .bind(to: address) { channel in
                let (lines, line) = AsyncStream.makeStream(of: Data.self)
                return Self.prepare(channel, line).map { (channel, lines) }
            }
        bound(server.channel.localAddress)
        try await server.executeThenClose { runs in
            for try await (channel, lines) in runs {
                do { try await serve(lines, channel) } catch { Entry.report("a run ended: \(error)") }
            }
        }
    }

    private static func prepare(_ channel: any Channel, _ line: AsyncStream<Data>.Continuation) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(LineHandler(line: { line.yield($0) }, closed: { line.finish() }))
        }
    }

    func serve(_ lines: AsyncStream<Data>, _ channel: any Channel) async throws {
        var engine: LoadEngine?
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for await line in lines {
                    let request = try JSONDecoder().decode(WorkerRequest.self, from: line)
                    switch request.command {
                    case .begin(let secret, let share):
                        guard engine == nil, self.secret.map({ $0 == secret }) ?? true else {
                            throw LoadtestError.environment("A run without the secret was turned away", "Give both the same CARILLON_LOADTEST_SECRET")
                        }
                        let plan = try share.plan()
                        try FileDescriptorLimit.require(plan.connections + plan.publishConnections)
                        engine = try await LoadEngine.start(plan)
                        try await channel.writeLine(WorkerAnswer(id: request.id))
                    case .clock:
                        try await channel.writeLine(WorkerAnswer(id: request.id, number: monotonicNow()))
                    case .stop:
                        try await engine?.stop()
                        engine = nil
                        try await channel.writeLine(WorkerAnswer(id: request.id))
                    default:
                        guard let engine else { throw LoadtestError.malformed("A command came before the share") }
                        // Sending lasts, and is watched meanwhile.
                        group.addTask { try await channel.writeLine(await answer(request, engine)) }
                    }
                }
                // The run is gone: nothing that is still under way matters.
                group.cancelAll()
            }
        } catch {
            try await engine?.stop()
            channel.close(promise: nil)
            throw error
        }
        try await engine?.stop()
        channel.close(promise: nil)
    }

    private func answer(_ request: WorkerRequest, _ engine: LoadEngine) async -> WorkerAnswer {
        var answer = WorkerAnswer(id: request.id)
        do {
            switch request.command {
            case .begin, .clock, .stop: preconditionFailure("answered by its caller")
            case .hold(let connections): try await engine.hold(connections)
            case .drop: try await engine.dropAndResume()
            case .send(let origin, let phase): try await engine.send(origin: origin, phase: phase)
            case .hurry: try await engine.hurry()
            case .markCaughtUpTargets: try await engine.markCaughtUpTargets()
            case .notCaughtUp: answer.number = UInt64(try await engine.streamsNotCaughtUp())
            case .askCounts: try await engine.askCounts()
            case .askInboxes: try await engine.askInboxes()
            case .counters:
                answer.counters = try await engine.counters()
                answer.calls = try await engine.takeRelayedCalls()
            case .behind: answer.number = UInt64(try await engine.streamsBehind())
            case .result: answer.result = try await engine.result()
            case .expect(let calls): try await engine.expect(calls)
            }
        } catch { answer.failure = "\(error)" }
        return answer
    }
}
