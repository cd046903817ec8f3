internal import DequeModule
internal import Logging
internal import NIOCore

/// Asks one of several servers the same question again and again, and on demand; when that one fails or does not know, the next one.
/// Only answers count: while nobody can be asked, what was answered last stands. Bound to its event loop.
final class TopologyWatch<Answer: Sendable>: SupervisorClient {
    private enum Asked {
        case poll
        case demand(EventLoopPromise<Answer>)
    }

    private let candidates: RotatingSource
    private let eventLoop: any EventLoop
    private let question: RedisCommand
    private let read: (RedisValue, RedisAddress) -> Result<Answer, RedisError>
    private var supervisor: Supervisor?
    private var connection: Connection?
    private var answered: ((Answer) -> Void)?
    private var failed: ((RedisError) -> Void)?
    /// In flight, oldest first.
    private var asked = Deque<Asked>()
    /// Those who ask while there is no connection.
    private var waiting: [EventLoopPromise<Answer>] = []
    private var failuresInARow = 0
    private var isShutDown = false

    /// - Parameter read: makes an answer of the reply of the server at that address. A failure ends the connection.
    init(
        candidates: RotatingSource, configuration: RedisConnectionConfiguration, eventLoop: any EventLoop, logger: Logger, question: RedisCommand,
        read: @escaping (RedisValue, RedisAddress) -> Result<Answer, RedisError>
    ) {
        self.candidates = candidates
        self.eventLoop = eventLoop
        self.question = question
        self.read = read
        supervisor = Supervisor(
            source: candidates, configuration: configuration, purpose: .watch, eventLoop: eventLoop, counters: ConnectionCounters(), logger: logger,
            client: self
        )
    }

    /// - Parameters:
    ///   - answered: called with every answer.
    ///   - failed: called when one server after the other failed to give one, with the last one's reason.
    func start(answered: @escaping (Answer) -> Void, failed: ((RedisError) -> Void)? = nil) {
        self.answered = answered
        self.failed = failed
        supervisor?.start()
    }

    /// A fresh answer. Fails once every server failed to give one.
    func ask() -> EventLoopFuture<Answer> {
        eventLoop.assertInEventLoop()
        guard !isShutDown else { return eventLoop.makeFailedFuture(RedisError.shutDown) }
        let promise = eventLoop.makePromise(of: Answer.self)
        if let connection {
            ask(connection, .demand(promise))
        } else {
            waiting.append(promise)
        }
        return promise.futureResult
    }

    /// Asks the next server from now on: this one is behind the times.
    func leave() {
        connection?.end(RedisError(code: .connectionLost, message: "the server's answer is not up to date, the next one is asked"))
    }

    func shutdown() -> EventLoopFuture<Void> {
        isShutDown = true
        answered = nil
        failed = nil
        failAll(.shutDown)
        guard let supervisor else { return eventLoop.makeSucceededVoidFuture() }
        return supervisor.shutdown().assumeIsolated().map { self.supervisor = nil }.nonisolated()
    }

    private func ask(_ connection: Connection, _ who: Asked) {
        asked.append(who)
        connection.write(question.encode)
    }

    private func noAnswer(_ reason: RedisError) {
        failuresInARow += 1
        guard failuresInARow >= candidates.endpoints.count else { return }
        failAll(reason)
        failed?(reason)
    }

    private func failAll(_ reason: RedisError) {
        let promises = waiting
        waiting = []
        for promise in promises { promise.fail(reason) }
    }

    // MARK: The connection

    var awaitsReply: Bool { !asked.isEmpty }

    func up(_ connection: Connection) {
        self.connection = connection
        let promises = waiting
        waiting = []
        for promise in promises { ask(connection, .demand(promise)) }
        if promises.isEmpty { ask(connection, .poll) }
    }

    func received(_ reply: ReplyView) throws(RedisError) {
        guard let who = asked.first else { throw .violation("a reply to nothing") }
        switch read(try reply.value(), connection?.address ?? RedisAddress(host: "", port: 0)) {
        // It stays with those who ask: the next server may know.
        case .failure(let error): throw error
        case .success(let answer):
            failuresInARow = 0
            asked.removeFirst()
            if case .demand(let promise) = who { promise.succeed(answer) }
            answered?(answer)
        }
    }

    func readComplete() {}

    func probe(_ connection: Connection) {
        ask(connection, .poll)
    }

    func attemptFailed(_ reason: RedisError) {
        noAnswer(reason)
    }

    func down(_ reason: RedisError) {
        connection = nil
        for case .demand(let promise) in asked { waiting.append(promise) }
        asked = []
        if isShutDown { failAll(.shutDown) } else { noAnswer(reason) }
    }

    func finish(_ connection: Connection) {
        connection.end(.shutDown)
    }
}
