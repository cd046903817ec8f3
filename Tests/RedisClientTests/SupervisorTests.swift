import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import TestServers
import Testing

@testable import RedisClient

@Suite("A connection and what says where it goes", .timeLimit(.minutes(5)))
struct SupervisorTests {
    /// Names what the test says, and takes down what it is told.
    private final class Source: EndpointSource {
        private let eventLoop: any EventLoop
        private let answer: Result<RedisEndpoint, RedisError>
        private let asked: Events<Void>
        private let failures: NIOLockedValueBox<Int>
        var changed: ((RedisEndpoint) -> Void)?

        init(_ answer: Result<RedisEndpoint, RedisError>, eventLoop: any EventLoop, asked: Events<Void>, failures: NIOLockedValueBox<Int>) {
            self.answer = answer
            self.eventLoop = eventLoop
            self.asked = asked
            self.failures = failures
        }

        var description: String { "a test" }
        var role: Greeting.Role { .any }
        func start(changed: @escaping (RedisEndpoint) -> Void) { self.changed = changed }

        func next() -> EventLoopFuture<RedisEndpoint> {
            asked.add(())
            return eventLoop.makeCompletedFuture(answer.mapError { $0 as any Error })
        }

        func attemptFailed() { failures.withLockedValue { $0 += 1 } }
        func shutdown() -> EventLoopFuture<Void> { eventLoop.makeSucceededVoidFuture() }
    }

    private final class Client: SupervisorClient {
        let failed: Events<Void>

        init(failed: Events<Void>) {
            self.failed = failed
        }

        var awaitsReply: Bool { false }
        func up(_ connection: Connection) {}
        func received(_ reply: ReplyView) throws(RedisError) {}
        func readComplete() {}
        func probe(_ connection: Connection) {}
        func attemptFailed(_ reason: RedisError) { failed.add(()) }
        func down(_ reason: RedisError) {}
        func finish(_ connection: Connection) { connection.end(.shutDown) }
    }

    private struct World {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let asked = Events<Void>()
        let failed = Events<Void>()
        let failures = NIOLockedValueBox(0)
        let source: NIOLoopBoundBox<Source>
        let supervisor: NIOLoopBoundBox<Supervisor>

        /// Its backoff takes longer than any test.
        init(_ answer: Result<RedisEndpoint, RedisError>) async throws {
            var configuration = RedisConnectionConfiguration()
            configuration.backoffInitial = .hours(1)
            configuration.backoffMaximum = .hours(1)
            let (eventLoop, asked, failed, failures, its) = (eventLoop, asked, failed, failures, configuration)
            (source, supervisor) = try await eventLoop.submit {
                let source = Source(answer, eventLoop: eventLoop, asked: asked, failures: failures)
                let supervisor = Supervisor(
                    source: source, configuration: its, purpose: .commands, eventLoop: eventLoop, counters: ConnectionCounters(),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, client: Client(failed: failed)
                )
                supervisor.start()
                return (NIOLoopBoundBox(source, eventLoop: eventLoop), NIOLoopBoundBox(supervisor, eventLoop: eventLoop))
            }.get()
        }

        func shutdown() async throws {
            try await eventLoop.flatSubmit { [supervisor] in supervisor.value.shutdown() }.get()
        }
    }

    @Test("the first answer of what watches ends the wait, when until then nobody knew where to go")
    func firstAnswer() async throws {
        let world = try await World(.failure(.unavailable))
        _ = try await world.failed.first { true }
        _ = try await world.asked.first { true }
        let source = world.source
        try await world.eventLoop.submit { source.value.changed?(RedisEndpoint(host: "127.0.0.1", port: 1)) }.get()
        // Not an hour later.
        _ = try await world.asked.first { true }
        #expect(world.failures.withLockedValue { $0 } == 0)
        try await world.shutdown()
    }

    @Test("the source is told that what it named is of no use")
    func told() async throws {
        let world = try await World(.success(RedisEndpoint(host: "127.0.0.1", port: try FreePort.next())))
        _ = try await world.failed.first { true }
        #expect(world.failures.withLockedValue { $0 } == 1)
        try await world.shutdown()
    }

    @Test("a sentinel that names a server which is not there is left for another one")
    func staleSentinel() async throws {
        let master = try await LiveRedis()
        let (right, wrong) = (master.port, try FreePort.next())
        // The first that is asked is behind the times, whichever of them it be.
        let stale = NIOLockedValueBox<Int?>(nil)
        let answer: @Sendable ([String], Int) -> String? = { command, port in
            guard command[0] == "SENTINEL" else { return "+PONG\r\n" }
            let isStale = stale.withLockedValue { first in
                first = first ?? port
                return first == port
            }
            return ScriptedRedis.array(ScriptedRedis.bulk("127.0.0.1"), ScriptedRedis.bulk("\(isStale ? wrong : right)"))
        }
        let sentinels = [try await ScriptedRedis(answer), try await ScriptedRedis(answer)]
        let places = sentinels.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
        let live = try await LiveClient.available(try RedisDeployment(url: "redis+sentinel://\(places)/m"), .patient)
        #expect(try await live.send("SET", "k", "v") == .status("OK"))
        try await live.client.shutdown().get()
        for sentinel in sentinels { try await sentinel.stop() }
        await master.kill()
    }
}
