public import Gateway
public import Logging
public import NIOCore
import NIOHTTP1
public import NotificationBus
public import NotificationCore
public import NotificationStore
public import PostgresClient
import Synchronization

/// The streams of one node: a hub for each event loop, the subscriptions that feed them, the heartbeat and the commit tail.
public final class Edge: SubscriptionListener {
    private struct State {
        var loops: [EdgeLoop] = []
        var sessions: SocketIOSessions?
        /// Streams that were evicted before they had joined.
        var earlyEvictions: [NotificationID: NIODeadline] = [:]
    }

    public let configuration: EdgeConfiguration
    public let metrics = EdgeMetrics()
    let leases: Leases
    let subscriptions: Subscriptions
    let feedReader: FeedReader
    let audience: DirectAudience
    let origins: Origins
    let cookieName: String
    let ping = ByteBuffer(bytes: StreamFrame.ping)
    private let pool: PostgresPool
    let identity: ClusterIdentity
    private let credentials: Credentials
    private let tickets: TicketSigner
    private let ledger: TicketLedger
    let logger: Logger
    private let draining = Atomic<Bool>(false)
    /// Places may have been lost that nobody told of.
    private let leasesInDoubt = Atomic<Bool>(false)
    private let state = Mutex(State())

    public init(
        configuration: EdgeConfiguration, group: any EventLoopGroup, leases: Leases, subscriptions: Subscriptions, pool: PostgresPool, audience: DirectAudience,
        identity: ClusterIdentity, credentials: Credentials, tickets: TicketSigner, ledger: TicketLedger, logger: Logger
    ) {
        self.configuration = configuration
        self.leases = leases
        self.subscriptions = subscriptions
        self.pool = pool
        self.identity = identity
        self.feedReader = FeedReader(pool: pool)
        self.audience = audience
        self.credentials = credentials
        self.origins = credentials.origins
        self.cookieName = credentials.cookieName
        self.tickets = tickets
        self.ledger = ledger
        self.logger = logger
        let loops = group.makeIterator().enumerated().map { EdgeLoop(eventLoop: $0.element, index: $0.offset, edge: self) }
        self.state.withLock { $0.loops = loops }
    }

    private var authenticator: StreamAuthenticator {
        StreamAuthenticator(credentials: self.credentials, tickets: self.tickets, ledger: TicketRedemption(ledger: self.ledger))
    }

    /// Adds all that an edge serves.
    public func addRoutes(to routes: inout GatewayRoutes) {
        let authenticator = self.authenticator
        let stream = SSERoute(edge: self, authenticator: authenticator)
        routes.add(stream: "/v1/notifications/sse", stream)
        routes.add(stream: "/v1/notifications/stream", stream)
        routes.add(webSocket: "/v1/notifications/ws", WebSocketRoute(edge: self, authenticator: authenticator))
        routes.add(.GET, "/v1/notifications/ws", UpgradeRequired())
        routes.add(.GET, "/v1/notifications/poll", PollRoute(edge: self, authenticator: authenticator))
        let sessions = SocketIOSessions(edge: self, authenticator: authenticator)
        self.state.withLock { $0.sessions = sessions }
        routes.add(webSocket: "/socket.io/", SocketIOWebSocketRoute(sessions: sessions))
        routes.add(.GET, "/socket.io/", SocketIORoute(sessions: sessions))
        routes.add(.POST, "/socket.io/", SocketIORoute(sessions: sessions))
        routes.add(.POST, "/v1/notifications/stream-ticket", StreamTicketRoute(credentials: self.credentials, tickets: self.tickets))
        routes.add(.POST, "/v1/notifications/stream-renew", StreamRenewRoute(credentials: self.credentials, leases: self.leases))
    }

    private var loops: [EdgeLoop] { self.state.withLock { $0.loops } }

    func loop(of eventLoop: any EventLoop) -> EdgeLoop {
        guard let loop = self.loops.first(where: { $0.eventLoop === eventLoop }) else {
            preconditionFailure("a stream's event loop is one of the edge's group")
        }
        return loop
    }

    // MARK: Life

    public func start() {
        for loop in self.loops { loop.start() }
    }

    public var isDraining: Bool { self.draining.load(ordering: .relaxed) }

    /// Streams that are open, or being opened.
    public var connections: Int { self.metrics.connections.load(ordering: .relaxed) }

    /// Lets no more streams in and closes those that are open over the window, each with a `retry:` of its own. Returns when none is left, and
    /// this edge is no longer among those that others ask, or when the window is over.
    public func drain() async {
        self.draining.store(true, ordering: .relaxed)
        let window = self.connections == 0 ? TimeAmount.zero : self.configuration.drainWindow
        for loop in self.loops { loop.eventLoop.execute { loop.drain(window: window) } }
        self.state.withLock { $0.sessions }?.drain()
        let deadline = ContinuousClock.now + .nanoseconds(window.nanoseconds) + .seconds(2)
        while self.connections > 0, ContinuousClock.now < deadline {
            do { try await Task.sleep(for: .milliseconds(20)) } catch { break }
        }
        // Those that are left are still its own until they are cut, and hold their places.
        if self.connections == 0 { self.leases.leave() }
    }

    public func stop() {
        self.feedReader.close()
        for loop in self.loops { loop.stop() }
    }

    func connectionBegins() -> Bool {
        if self.metrics.connections.add(1, ordering: .relaxed).newValue > self.configuration.maximumConnections {
            self.connectionEnded()
            return false
        }
        return true
    }

    func connectionEnded() {
        self.metrics.connections.subtract(1, ordering: .relaxed)
    }

    // MARK: From Redis

    public func received(_ messages: [UserMessage], loop: Int) {
        let loop = self.loops[loop]
        loop.eventLoop.execute { loop.received(messages) }
    }

    public func received(_ control: Control) {
        if case .evict(_, let text) = control, let id = NotificationID(text) {
            // It may still be on its way to its hub: it finds this there. Bounded by time.
            self.state.withLock {
                let now = NIODeadline.now()
                if $0.earlyEvictions.count > 10_000 { $0.earlyEvictions = $0.earlyEvictions.filter { now - $0.value < .seconds(10) } }
                $0.earlyEvictions[id] = now
            }
        }
        for loop in self.loops { loop.eventLoop.execute { loop.control(control) } }
    }

    public func received(_ question: EdgeQuestion) {
        let loops = self.loops
        guard let first = loops.first else { return }
        let parts = loops.map { loop in loop.eventLoop.submit { loop.answer(to: question) } }
        EventLoopFuture.whenAllSucceed(parts, on: first.eventLoop).whenSuccess { parts in
            self.leases.answer(question, ConnectionReport.joined(parts, question))
        }
    }

    public func received(broadcast payload: ByteBuffer) {
        for loop in self.loops { loop.eventLoop.execute { loop.received(broadcast: payload) } }
    }

    func takeEarlyEviction(_ id: NotificationID) -> Bool { self.state.withLock { $0.earlyEvictions.removeValue(forKey: id) != nil } }
    func foundConnection(_ id: NotificationID) { self.state.withLock { $0.earlyEvictions[id] = nil } }

    public func controlRestored() { self.leasesInDoubt.store(true, ordering: .relaxed) }

    public func resubscribed() {
        for loop in self.loops { loop.eventLoop.execute { loop.reconcile() } }
    }

    public func resubscribed(_ users: [UserID], loop: Int) {
        let loop = self.loops[loop]
        loop.eventLoop.execute {
            loop.reconcile(users: users)
            // The shard that holds them now may have forgotten their leases.
            self.reassertLeases(loop.leases(of: users), of: loop).whenComplete { result in
                switch result {
                case .success(let surplus):
                    for control in surplus { self.received(control) }
                case .failure:
                    // With the next heartbeats.
                    self.leasesInDoubt.store(true, ordering: .relaxed)
                }
            }
        }
    }

    /// False when Redis did not take all of them.
    private func reassertLeases() async -> Bool {
        let done = self.loops.map { loop in loop.eventLoop.flatSubmit { self.reassertLeases(of: loop) } }
        do {
            for future in done {
                for control in try await future.get() { self.received(control) }
            }
            return true
        } catch {
            self.logger.debug("leases not taken again, tried with the next heartbeat", metadata: ["error": "\(error)"])
            return false
        }
    }

    /// In portions, so that Redis serves others in between. Answers which of this edge's streams must go.
    func reassertLeases(of loop: EdgeLoop) -> EventLoopFuture<[Control]> { self.reassertLeases(loop.leases, of: loop) }

    private func reassertLeases(_ leases: [Lease], of loop: EdgeLoop) -> EventLoopFuture<[Control]> {
        loop.eventLoop.assertInEventLoop()
        var done = loop.eventLoop.makeSucceededFuture([Control]())
        for from in stride(from: 0, to: leases.count, by: 500) {
            let portion = leases[from..<min(from + 500, leases.count)]
            done = done.flatMap { before in
                let open = portion.filter { loop.isOpen($0) }
                return self.leases.reassert(open).hop(to: loop.eventLoop).map { surplus in
                    // Those that ended meanwhile may have given their places back before these were taken.
                    self.leases.release(open.filter { !loop.isOpen($0) })
                    return before + surplus
                }
            }
        }
        return done
    }

    // MARK: Long work

    /// The heartbeat: once a second this edge says that it lives, and hears who else does. Until cancelled.
    public func runHeartbeat() async {
        var last = ContinuousClock.now
        var beats = 0
        // Beats with which leases are taken again: several, until every other edge has seen that this one lives.
        var again = 0
        while !Task.isCancelled {
            do {
                let forgotten = try await self.leases.beat().get()
                beats += 1
                // Redis has not heard of this edge for so long that others took its leases for dead; or this process stood still.
                let now = ContinuousClock.now
                if self.leasesInDoubt.exchange(false, ordering: .relaxed) || forgotten || now - last > .seconds(3) { again = 3 }
                last = now
                // Renewed long before they end.
                if again > 0 || beats % 1200 == 0, await self.reassertLeases() { again = max(0, again - 1) }
            } catch {
                self.logger.debug("heartbeat failed", metadata: ["error": "\(error)"])
            }
            do { try await Cadence.sleep(.seconds(1)) } catch { return }
        }
    }

    /// The commit tail: finds what was committed and not heard of, once a second; four times a second while Redis is away, when it is the way
    /// of delivery. Until cancelled.
    public func runCommitTail() async {
        var tail = CommitTail(pool: self.pool, identity: self.identity)
        var epoch: Int64 = 0
        var failing = false
        while !Task.isCancelled {
            do {
                let reading = try await tail.read()
                if (epoch != 0 && reading.epoch != epoch) || failing {
                    // Another life of the data, or a time that was not seen: every user is compared.
                    for loop in self.loops { loop.eventLoop.execute { loop.reconcile() } }
                }
                epoch = reading.epoch
                failing = false
                if !reading.known.isEmpty {
                    let users = reading.known
                    for loop in self.loops { loop.eventLoop.execute { loop.known(users) } }
                }
                var heads: [(user: UserID, seq: Int64, ageMilliseconds: Int64)] = []
                for commit in reading.commits {
                    for (user, seq) in zip(commit.users, commit.lastSeqs) { heads.append((user, seq, commit.ageMilliseconds)) }
                }
                var late = 0
                if !heads.isEmpty {
                    let found = heads
                    for loop in self.loops {
                        late += (try? await loop.eventLoop.submit { loop.tail(found) }.get()) ?? 0
                    }
                }
                self.metrics.unpublished.store(late, ordering: .relaxed)
            } catch {
                if !failing { self.logger.warning("commit tail cannot be read", metadata: ["error": "\(error)"]) }
                failing = true
            }
            let pause: Duration = self.subscriptions.isAvailable ? .seconds(1) : .milliseconds(250)
            do { try await Cadence.sleep(pause) } catch { return }
        }
    }
}
