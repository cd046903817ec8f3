internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// What every thread may read of a client.
final class CommandShared: Sendable {
    let isAvailable = Atomic<Bool>(false)
    /// Whether there is any server to send to. The same as `isAvailable` unless there are several.
    let isReachable = Atomic<Bool>(false)
    let isShutDown = Atomic<Bool>(false)
    let admission: Admission
    let stateHandlers = NIOLockedValueBox<[@Sendable (Bool) -> Void]>([])
    let connection: ConnectionCounters
    let commands: CommandCounters

    init(admission: Admission) {
        self.admission = admission
        connection = ConnectionCounters()
        commands = CommandCounters()
    }

    /// For one of several connections of a client: it counts into the client's counters. What is in flight is bounded over all of them, where
    /// the client is asked, and not here again.
    init(partOf whole: CommandShared) {
        admission = Admission(maximumCommands: .max, maximumBytes: .max)
        connection = ConnectionCounters(partOf: whole.connection)
        commands = whole.commands
    }
}

/// What a client does with its commands, on its event loop.
protocol ClientCore: AnyObject {
    func start()
    func shutdown() -> EventLoopFuture<Void>
    /// The bytes are taken from the client's admission already.
    func send(_ command: RedisCommand, bytes: Int, promise: EventLoopPromise<RedisValue>)
    func pipeline(_ commands: [RedisCommand], bytes: Int, promise: EventLoopPromise<[RedisValue]>)
}

/// The part of ``RedisClient`` that lives on the event loop: matches replies to commands.
final class CommandCore: ClientCore, SupervisorClient {
    private let shared: CommandShared
    private let eventLoop: any EventLoop
    private var queue: CommandQueue
    private var connection: Connection?
    private var supervisor: Supervisor?
    private var isFinishing = false
    private var sawReadOnly = false
    private let asksRole: Bool
    private var probesRole = false
    /// Told of each attempt to connect that failed.
    var attemptFailed: ((RedisError) -> Void)?

    init(
        source: any EndpointSource, configuration: RedisClientConfiguration, eventLoop: any EventLoop, shared: CommandShared, logger: Logger
    ) {
        self.shared = shared
        self.eventLoop = eventLoop
        queue = CommandQueue(admission: shared.admission)
        switch source.role {
        case .any: asksRole = false
        case .writable, .master: asksRole = true
        }
        supervisor = Supervisor(
            source: source, configuration: configuration.connection, purpose: .commands, eventLoop: eventLoop, counters: shared.connection,
            logger: logger, client: self
        )
    }

    func start() {
        supervisor?.start()
    }

    func shutdown() -> EventLoopFuture<Void> {
        // None once it has finished.
        guard let supervisor else { return eventLoop.makeSucceededVoidFuture() }
        return supervisor.shutdown().assumeIsolated().map { self.supervisor = nil }.nonisolated()
    }

    func send(_ command: RedisCommand, bytes: Int, promise: EventLoopPromise<RedisValue>) {
        guard let connection, !isFinishing else {
            reject(1, bytes: bytes)
            return promise.fail(RedisError.unavailable)
        }
        shared.commands.sent.add()
        queue.append(promise, bytes: bytes)
        connection.write(command.encode)
    }

    func pipeline(_ commands: [RedisCommand], bytes: Int, promise: EventLoopPromise<[RedisValue]>) {
        guard let connection, !isFinishing else {
            reject(commands.count, bytes: bytes)
            return promise.fail(RedisError.unavailable)
        }
        shared.commands.sent.add(commands.count)
        queue.append(promise, count: commands.count, bytes: bytes)
        connection.write { buffer in
            buffer.reserveCapacity(minimumWritableBytes: bytes)
            for command in commands { command.encode(into: &buffer) }
        }
    }

    private func reject(_ commands: Int, bytes: Int) {
        shared.admission.release(commands: commands, bytes: bytes)
        shared.commands.rejectedUnavailable.add(commands)
    }

    private func note(_ value: RedisValue) {
        guard case .error(let error) = value else { return }
        shared.commands.serverErrors.add()
        switch error.serverCode {
        case "READONLY":
            shared.commands.readOnlyReplies.add()
            sawReadOnly = true
        case "LOADING": shared.commands.loadingReplies.add()
        case "MASTERDOWN": shared.commands.masterDownReplies.add()
        default: break
        }
    }

    private func tell(_ isAvailable: Bool) {
        shared.isReachable.store(isAvailable, ordering: .releasing)
        shared.isAvailable.store(isAvailable, ordering: .releasing)
        for handler in shared.stateHandlers.withLockedValue({ $0 }) { handler(isAvailable) }
    }

    // MARK: The connection

    var awaitsReply: Bool { !queue.isEmpty }

    func up(_ connection: Connection) {
        self.connection = connection
        sawReadOnly = false
        probesRole = asksRole
        tell(true)
    }

    func received(_ reply: ReplyView) throws(RedisError) {
        let value = try reply.value()
        note(value)
        switch try queue.received(value) {
        case .nothing: break
        case .probe(let value):
            if value.error != nil {
                probesRole = false
            } else if value.array?.first?.string == "slave" {
                // Nobody has written since it became one.
                sawReadOnly = true
            }
        case .single(let promise, .error(let error)): promise.fail(error)
        case .single(let promise, let value): promise.succeed(value)
        case .group(let promise, let values): promise.succeed(values)
        }
    }

    func readComplete() {
        // Other replies of the same read have been delivered. A failover leaves old connections at what is a replica now; a new connection
        // finds the primary by its name.
        if sawReadOnly {
            sawReadOnly = false
            connection?.end(RedisError(code: .connectionLost, message: "the server has become a read-only replica; what was in flight may or may not have been done"))
        } else if isFinishing, queue.isEmpty {
            connection?.end(.shutDown)
        }
    }

    func probe(_ connection: Connection) {
        queue.appendProbe()
        // Where ROLE is not allowed, PING is a sign of life, too.
        connection.write(RedisCommand(probesRole ? "ROLE" : "PING").encode)
    }

    func attemptFailed(_ reason: RedisError) {
        attemptFailed?(reason)
    }

    func down(_ reason: RedisError) {
        connection = nil
        let (count, fail) = queue.drain()
        shared.commands.failed.add(count)
        tell(false)
        fail(reason)
    }

    func finish(_ connection: Connection) {
        isFinishing = true
        shared.isReachable.store(false, ordering: .releasing)
        shared.isAvailable.store(false, ordering: .releasing)
        if queue.isEmpty { connection.end(.shutDown) }
    }
}
