internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// The part of a cluster's ``RedisClient`` that lives on the event loop: a connection to each master, the map of the slots, and what becomes of
/// commands that are sent elsewhere.
final class ClusterCore: ClientCore {
    /// One connection, and who waits for it to be made.
    private final class Node {
        let core: CommandCore
        let shared: CommandShared
        var isUp = false
        /// Called once with the outcome of the present attempt to connect.
        var waiting: [(RedisError?) -> Void] = []
        /// Answers in a row in which it served nothing.
        var missed = 0

        init(core: CommandCore, shared: CommandShared) {
            self.core = core
            self.shared = shared
        }

        func settle(_ error: RedisError?) {
            let all = waiting
            waiting = []
            for one in all { one(error) }
        }
    }

    /// Answers in which a node may serve nothing before its connection is closed: a map may be late.
    private static let patience = 3

    private static let gathering = TimeAmount.milliseconds(5)

    private let shared: CommandShared
    private let access: RedisEndpoint
    private let seeds: [RedisEndpoint]
    private let configuration: RedisClientConfiguration
    private let eventLoop: any EventLoop
    private let logger: Logger
    private let candidates: RotatingSource
    private let watch: TopologyWatch<SlotMap>
    private var nodes: [RedisAddress: Node] = [:]
    private var map = LearnedSlotMap()
    private var hasMap = false
    private var observers: [@Sendable (SlotMap) -> Void] = []
    private var pace = RefreshPace()
    private var mapPatience = MapPatience()
    private var isChanging = false
    private var isStarted = false
    private var isFinishing = false
    private var inFlight = 0
    private var awaitingIdle: [EventLoopPromise<Void>] = []

    init(_ cluster: RedisClusterDeployment, configuration: RedisClientConfiguration, eventLoop: any EventLoop, shared: CommandShared, logger: Logger) {
        guard let first = cluster.seeds.first else { preconditionFailure("a cluster without a node") }
        self.shared = shared
        self.configuration = configuration
        self.eventLoop = eventLoop
        self.logger = logger
        access = first
        seeds = cluster.seeds
        candidates = RotatingSource(cluster.seeds, eventLoop: eventLoop)
        watch = TopologyWatch(
            candidates: candidates, configuration: configuration.connection, eventLoop: eventLoop, logger: logger,
            question: RedisCommand("CLUSTER", "SLOTS"), read: SlotMap.read
        )
    }

    func start() {
        guard !isStarted, !isFinishing else { return }
        isStarted = true
        watch.start(
            answered: { [weak self] in self?.answered($0) },
            failed: { [weak self] reason in
                guard let self, !self.hasMap else { return }
                self.shared.connection.reason.withLockedValue { $0 = reason }
            }
        )
    }

    func shutdown() -> EventLoopFuture<Void> {
        isFinishing = true
        // Nobody else tells them: a connection that is given up before it is made is no failed attempt.
        for node in nodes.values { node.settle(.shutDown) }
        observers = []
        shared.isAvailable.store(false, ordering: .releasing)
        shared.isReachable.store(false, ordering: .releasing)
        let idle = eventLoop.makePromise(of: Void.self)
        awaitingIdle.append(idle)
        let closed = nodes.values.map { $0.core.shutdown() } + [watch.shutdown()]
        checkIdle()
        return EventLoopFuture.andAllComplete(closed, on: eventLoop).flatMap { idle.futureResult }.assumeIsolated().map { self.nodes = [:] }.nonisolated()
    }

    private func checkIdle() {
        guard isFinishing, inFlight == 0 else { return }
        let promises = awaitingIdle
        awaitingIdle = []
        for promise in promises { promise.succeed() }
    }

    // MARK: The map

    func observe(_ handler: @escaping @Sendable (SlotMap) -> Void) {
        guard !isFinishing else { return }
        observers.append(handler)
        if hasMap { handler(map.current) }
    }

    /// Asks for the map, soon if not now.
    func refresh() {
        guard isStarted, !isFinishing, pace.wanted() else { return }
        askForMap()
    }

    private func askForMap() {
        watch.ask().assumeIsolated().whenComplete { _ in
            self.pace.answered()
            guard !self.isFinishing else { return }
            self.eventLoop.assumeIsolated().scheduleTask(in: RefreshPace.rest) {
                if self.pace.rested(), !self.isFinishing { self.askForMap() }
            }
        }
    }

    func moved(_ slot: HashSlot, to address: RedisAddress) {
        guard !isFinishing else { return }
        if map.moved(slot, to: address, now: eventLoop.now) {
            _ = node(address)
            changeSoon()
        }
        refresh()
    }

    private func answered(_ answer: SlotMap) {
        guard !isFinishing else { return }
        hasMap = true
        let outcome = map.answered(answer, now: eventLoop.now)
        if outcome.isChanged {
            candidates.replace(map.current.nodes.map { access.at($0) } + seeds)
            changed()
        }
        let masters = map.current.masters
        for (address, node) in nodes {
            node.missed = masters.contains(address) ? 0 : node.missed + 1
            if node.missed > Self.patience { drop(address, node) }
        }
        let isExhausted = mapPatience.answered(isServed: shared.isAvailable.load(ordering: .relaxed), now: eventLoop.now)
        if outcome.isOutdated || isExhausted { watch.leave() }
    }

    /// Slots that move one after the other are told of together.
    private func changeSoon() {
        guard !isChanging else { return }
        isChanging = true
        eventLoop.assumeIsolated().scheduleTask(in: Self.gathering) {
            self.isChanging = false
            if !self.isFinishing { self.changed() }
        }
    }

    private func changed() {
        for address in map.current.masters { _ = node(address) }
        checkAvailable()
        for observer in observers { observer(map.current) }
    }

    private func checkAvailable() {
        guard !isFinishing else { return }
        let missing = map.current.masters.filter { nodes[$0]?.isUp != true }
        let isAvailable = hasMap && missing.isEmpty && map.current.isComplete
        shared.isReachable.store(nodes.values.contains { $0.isUp }, ordering: .releasing)
        let reason: RedisError?
        if isAvailable {
            reason = nil
        } else if let address = missing.first, let its = nodes[address]?.shared.connection.reason.withLockedValue({ $0 }) {
            reason = its
        } else if hasMap {
            reason = map.current.isComplete ? .unavailable : .notServed
        } else {
            reason = shared.connection.reason.withLockedValue { $0 }
        }
        shared.connection.reason.withLockedValue { $0 = reason }
        guard isAvailable != shared.isAvailable.load(ordering: .relaxed) else { return }
        shared.isAvailable.store(isAvailable, ordering: .releasing)
        for handler in shared.stateHandlers.withLockedValue({ $0 }) { handler(isAvailable) }
    }

    // MARK: Nodes

    private func node(_ address: RedisAddress) -> Node {
        if let node = nodes[address] { return node }
        let shared = CommandShared(partOf: shared)
        let core = CommandCore(
            source: FixedSource(access.at(address), eventLoop: eventLoop), configuration: configuration, eventLoop: eventLoop, shared: shared, logger: logger
        )
        let node = Node(core: core, shared: shared)
        nodes[address] = node
        // The handler is called on the event loop, by the core.
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let identity = ObjectIdentifier(node)
        shared.stateHandlers.withLockedValue { $0.append { isUp in bound.value.became(isUp, address, identity) } }
        core.attemptFailed = { [weak self, weak node] reason in
            node?.settle(reason)
            self?.checkAvailable()
        }
        core.start()
        return node
    }

    private func became(_ isUp: Bool, _ address: RedisAddress, _ identity: ObjectIdentifier) {
        // One that was dropped is no concern any more, though there be another one at its address.
        guard let node = nodes[address], ObjectIdentifier(node) == identity else { return }
        node.isUp = isUp
        if isUp { node.settle(nil) } else { refresh() }
        checkAvailable()
    }

    private func drop(_ address: RedisAddress, _ node: Node) {
        nodes[address] = nil
        node.settle(.unavailable)
        let closed = node.core.shutdown()
        // Until then the core is in use.
        closed.assumeIsolated().whenComplete { _ in _ = node }
        checkAvailable()
    }

    // MARK: Commands

    func send(_ command: RedisCommand, bytes: Int, promise: EventLoopPromise<RedisValue>) {
        inFlight += 1
        attempt(command.sharded, bytes: bytes, Redirections()) { result in
            self.finished(commands: 1, bytes: bytes)
            promise.completeWith(result.mapError { $0 as any Error })
        }
    }

    private func finished(commands: Int, bytes: Int) {
        shared.admission.release(commands: commands, bytes: bytes)
        inFlight -= 1
        checkIdle()
    }

    private typealias Completion = (Result<RedisValue, RedisError>) -> Void

    private func place(of command: RedisCommand) -> RedisAddress? {
        switch command.route {
        case .slot(let slot): map.current.owner(of: slot)
        case .anywhere: nodes.first { $0.value.isUp }?.key
        }
    }

    /// To whoever serves it now.
    private func attempt(_ command: RedisCommand, bytes: Int, _ redirections: Redirections, _ done: @escaping Completion) {
        guard !isFinishing, let address = place(of: command), let node = nodes[address], node.isUp else {
            shared.commands.rejectedUnavailable.add()
            return done(.failure(isFinishing ? RedisError.shutDown : .notServed))
        }
        send(command, bytes: bytes, to: address, node, asking: false, redirections, done)
    }

    private func send(
        _ command: RedisCommand, bytes: Int, to address: RedisAddress, _ node: Node, asking: Bool, _ redirections: Redirections, _ done: @escaping Completion
    ) {
        if asking {
            let promise = eventLoop.makePromise(of: [RedisValue].self)
            node.core.pipeline([RedisCommand("ASKING"), command], bytes: bytes + 64, promise: promise)
            promise.futureResult.assumeIsolated().whenComplete { result in
                switch result {
                case .success(let values): self.answered(command, bytes: bytes, by: address, values[1], redirections, done)
                case .failure(let error): done(.failure(RedisError(connecting: error)))
                }
            }
        } else {
            let promise = eventLoop.makePromise(of: RedisValue.self)
            node.core.send(command, bytes: bytes, promise: promise)
            promise.futureResult.assumeIsolated().whenComplete { result in
                switch result {
                case .success(let value): done(.success(value))
                case .failure(let error): self.answered(command, bytes: bytes, by: address, .error(RedisError(connecting: error)), redirections, done)
                }
            }
        }
    }

    /// The answer to one command, which may be that it belongs elsewhere.
    private func answered(
        _ command: RedisCommand, bytes: Int, by address: RedisAddress, _ value: RedisValue, _ redirections: Redirections, _ done: @escaping Completion
    ) {
        guard case .error(let error) = value else { return done(.success(value)) }
        guard let redirection = Redirection(error, from: address) else { return done(.failure(error)) }
        shared.commands.redirections.add()
        switch redirection {
        case .moved(let slot, let address): moved(slot, to: address)
        case .down:
            mapPatience.heardDown(now: eventLoop.now)
            refresh()
        case .ask, .tryAgain: break
        }
        var redirections = redirections
        let step = redirections.next(redirection)
        let next = redirections
        guard !isFinishing else { return done(.failure(.shutDown)) }
        switch step {
        case .fail(let error): done(.failure(error))
        case .sendAgain(let delay):
            eventLoop.assumeIsolated().scheduleTask(in: delay) { self.attempt(command, bytes: bytes, next, done) }
        case .send(let address, let asking):
            let node = node(address)
            if node.isUp { return send(command, bytes: bytes, to: address, node, asking: asking, next, done) }
            // It has just been heard of. What waits here is in flight, so the bound on that bounds this.
            node.waiting.append { error in
                if self.isFinishing { return done(.failure(.shutDown)) }
                if error != nil { return done(.failure(.notServed)) }
                self.send(command, bytes: bytes, to: address, node, asking: asking, next, done)
            }
        }
    }

    func pipeline(_ commands: [RedisCommand], bytes: Int, promise: EventLoopPromise<[RedisValue]>) {
        inFlight += 1
        let run = PipelineRun(count: commands.count) { result in
            self.finished(commands: commands.count, bytes: bytes)
            promise.completeWith(result.mapError { $0 as any Error })
        }
        let commands = commands.map(\.sharded)
        var parts: [RedisAddress: [Int]] = [:]
        for (index, command) in commands.enumerated() {
            if !isFinishing, let address = place(of: command), nodes[address]?.isUp == true {
                parts[address, default: []].append(index)
            } else {
                shared.commands.rejectedUnavailable.add()
                run.failed(index, isFinishing ? RedisError.shutDown : .notServed)
            }
        }
        for (address, indices) in parts {
            guard let node = nodes[address] else { preconditionFailure("a part for a node that is not there") }
            let part = indices.map { commands[$0] }
            let answer = eventLoop.makePromise(of: [RedisValue].self)
            node.core.pipeline(part, bytes: part.reduce(0) { $0 + $1.wireBytes }, promise: answer)
            answer.futureResult.assumeIsolated().whenComplete { result in
                switch result {
                case .failure(let error):
                    for index in indices { run.failed(index, RedisError(connecting: error)) }
                case .success(let values):
                    for (index, value) in zip(indices, values) {
                        guard case .error = value else {
                            run.completed(index, .success(value))
                            continue
                        }
                        let command = commands[index]
                        self.answered(command, bytes: command.wireBytes, by: address, value, Redirections()) { run.completed(index, $0) }
                    }
                }
            }
        }
    }
}

/// The values of one pipeline as they come in from several nodes.
private final class PipelineRun {
    private var values: [RedisValue?]
    private var open: Int
    private var failures = 0
    private var firstFailure: RedisError?
    private let done: (Result<[RedisValue], RedisError>) -> Void

    init(count: Int, done: @escaping (Result<[RedisValue], RedisError>) -> Void) {
        values = Array(repeating: nil, count: count)
        open = count
        self.done = done
    }

    func completed(_ index: Int, _ result: Result<RedisValue, RedisError>) {
        switch result {
        case .success(let value): set(index, value)
        case .failure(let error) where error.code == .server: set(index, .error(error))
        case .failure(let error): failed(index, error)
        }
    }

    /// No server answered this one.
    func failed(_ index: Int, _ error: RedisError) {
        failures += 1
        if firstFailure == nil { firstFailure = error }
        set(index, .error(error))
    }

    private func set(_ index: Int, _ value: RedisValue) {
        values[index] = value
        open -= 1
        guard open == 0 else { return }
        if let firstFailure, failures == values.count { done(.failure(firstFailure)) } else { done(.success(values.compactMap { $0 })) }
    }
}
