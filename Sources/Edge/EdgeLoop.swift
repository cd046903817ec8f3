import Logging
import NIOCore
import NotificationBus
import NotificationCore
import NotificationStore
import Synchronization

/// The hub of one event loop: its users, its streams, its timers.
///
/// Unchecked: all mutable state is touched on `eventLoop` only, and every entry point asserts it.
final class EdgeLoop: @unchecked Sendable {
    let eventLoop: any EventLoop
    let index: Int
    let edge: Edge
    private var hubs: [UserID: UserHub] = [:]
    /// All streams, in the order in which they came as far as none has left: so do their sockets lie in memory, through which a broadcast goes fastest that
    /// way.
    private var streams: [StreamConnection] = []
    /// Connections with bytes to flush.
    var dirty: [StreamConnection] = []
    /// What was said last, in the forms of the other transports.
    var translations = Translations()
    /// Seconds of a clock that never jumps, as of the last turn: of pings, time limits and both wheels. What a token says is of another clock.
    private(set) var now = EdgeLoop.seconds

    private static var seconds: Int64 { Int64(NIODeadline.now().uptimeNanoseconds / 1_000_000_000) }
    private var wheel = TimerWheel<StreamConnection>(slots: 64)
    private var sessions = TimerWheel<SocketIOSession>(slots: 64)
    private var tick: RepeatedTask?
    private var suspension = Suspension()
    /// Answers of the log that came while nothing may be delivered.
    private var held: [() -> Void] = []

    #if os(Linux)
    /// TCP_USER_TIMEOUT (RFC 5482; tcp(7)): milliseconds for which what was sent may stay unacknowledged.
    private static let userTimeout = NIOBSDSocket.Option(rawValue: 18)
    #endif

    init(eventLoop: any EventLoop, index: Int, edge: Edge) {
        self.eventLoop = eventLoop
        self.index = index
        self.edge = edge
    }

    func start() {
        self.eventLoop.execute {
            self.suspension.awake(now: .now(), lastBeat: self.edge.leases.lastBeat)
            self.tick = self.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in self.ticked() }
        }
    }

    func stop() {
        self.eventLoop.execute {
            self.tick?.cancel()
            self.tick = nil
        }
    }

    // MARK: Streams come and go

    /// The stream has its lease: it takes the channel.
    func open(_ connection: StreamConnection, on channel: any Channel) {
        self.eventLoop.assertInEventLoop()
        self.add(connection)
        guard channel.isActive else {
            self.closed(connection)
            return
        }
        do {
            try Self.prepare(channel, self.edge.configuration)
            try channel.pipeline.syncOperations.addHandler(connection)
            connection.takeSocket()
        } catch {
            self.closed(connection)
            channel.close(promise: nil)
            return
        }
        self.begin(connection)
    }

    /// Bounds what a stream's channel holds.
    static func prepare(_ channel: any Channel, _ configuration: EdgeConfiguration) throws {
        guard let options = channel.syncOptions else { return }
        // As much in the socket as above it: else a thousand stuck readers hold gigabytes in the kernel.
        let bound = configuration.unsentBytes
        try options.setOption(.socketOption(.so_sndbuf), value: numericCast(bound))
        #if os(Linux)
        // A peer that vanished acknowledges nothing: the kernel would try for a quarter of an hour, and hold its user's place. A stuck one is
        // closed before that, with a reason.
        let patience = (configuration.stalledSeconds + 15) * 1000
        try options.setOption(.tcpOption(Self.userTimeout), value: numericCast(patience))
        #endif
        try options.setOption(.writeBufferWaterMark, value: .init(low: bound / 2, high: bound))
    }

    /// Has the session be told the time.
    func watch(_ session: SocketIOSession) {
        self.eventLoop.assertInEventLoop()
        self.sessions.schedule(session, at: self.now + 1, now: self.now)
    }

    func unwatch(_ session: SocketIOSession) {
        self.eventLoop.assertInEventLoop()
        self.sessions.remove(session)
    }

    /// The stream has its lease, and no channel of its own.
    func open(_ connection: StreamConnection) {
        self.eventLoop.assertInEventLoop()
        self.add(connection)
        self.begin(connection)
    }

    /// The user's hub here, made when there is none. It goes with the last of its connections.
    func hub(of user: UserID) -> UserHub {
        self.eventLoop.assertInEventLoop()
        if let hub = self.hubs[user] { return hub }
        let hub = UserHub(user: user)
        self.hubs[user] = hub
        return hub
    }

    private func add(_ connection: StreamConnection) {
        connection.user.connections.append(connection)
        connection.place = self.streams.count
        self.streams.append(connection)
        self.edge.metrics.opened(connection.transport, by: 1)
    }

    /// It joins once its channel's subscription is confirmed, or Redis is known to be away.
    private func begin(_ connection: StreamConnection) {
        let hub = connection.user
        self.edge.metrics.opened.add(1, ordering: .relaxed)
        self.wheel.schedule(connection, at: self.now + 1, now: self.now)
        if self.edge.isDraining {
            self.close(connection, .draining, retry: EdgeConfiguration.drainRetryMilliseconds())
            self.flush()
            return
        }
        if self.edge.takeEarlyEviction(connection.id) {
            self.evict(connection)
            self.flush()
            return
        }
        self.edge.subscriptions.hold([hub.user], loop: self.index).hop(to: self.eventLoop).whenComplete { _ in
            guard connection.phase == .joining else { return }
            self.input(hub) { $0.join(connection.id, resume: connection.resume, &$1) }
        }
    }

    func closed(_ connection: StreamConnection) {
        self.eventLoop.assertInEventLoop()
        guard connection.phase != .closed else { return }
        self.leave(connection)
        let hub = connection.user
        hub.connections.removeAll { $0 === connection }
        // The last one takes its place.
        let last = self.streams.removeLast()
        if last !== connection {
            self.streams[connection.place] = last
            last.place = connection.place
        }
        if hub.connections.isEmpty, !hub.isGone {
            hub.isGone = true
            self.hubs[hub.user] = nil
            self.edge.subscriptions.release([hub.user], loop: self.index)
        }
        self.edge.leases.release([connection.lease])
        self.edge.metrics.opened(connection.transport, by: -1)
        self.edge.connectionEnded()
    }

    private func leave(_ connection: StreamConnection) {
        if connection.phase == .behind { self.edge.metrics.lagging.subtract(1, ordering: .relaxed) }
        connection.phase = .closed
        self.wheel.remove(connection)
        connection.leaveSocket()
        connection.channel = nil
        connection.user.feed.leave(connection.id)
    }

    /// Says why, and closes. The stream is out of its hub at once.
    func close(_ connection: StreamConnection, _ reason: StreamFrame.CloseReason, retry: Int) {
        guard connection.phase != .closed else { return }
        var bytes: [UInt8] = []
        StreamFrame.appendClose(reason, retryMilliseconds: retry, to: &bytes)
        let channel = connection.channel
        if connection.isBlocked, let options = channel?.syncOptions {
            // A stuck reader does not take this now. The kernel gets room for all that is left, and goes on for as long as the peer lives.
            do {
                try options.setOption(.socketOption(.so_sndbuf), value: numericCast(self.edge.configuration.unsentBytes * 4))
            } catch {
                self.edge.logger.debug("socket of a stuck reader not enlarged: it may not hear why it was closed", metadata: ["error": "\(error)"])
            }
        }
        connection.writeHead()
        connection.send(ByteBuffer(bytes: bytes))
        self.closed(connection)
        connection.end(reason, retry: retry, channel)
    }

    /// Sends what is left and the end of the stream, and gives the client a moment to take it.
    ///
    /// - Parameter lingering: the client may have sent what is not read yet, upon which the kernel would break the connection off: wait for its end.
    static func closeGently(_ channel: any Channel, on loop: any EventLoop, lingering: Bool = false) {
        let timeout = loop.scheduleTask(in: .seconds(5)) { channel.close(promise: nil) }
        channel.closeFuture.whenComplete { _ in timeout.cancel() }
        let written = loop.makePromise(of: Void.self)
        channel.writeAndFlush(ByteBuffer(), promise: written)
        written.futureResult.whenComplete { _ in channel.close(mode: lingering ? .output : .all, promise: nil) }
    }

    func evict(_ connection: StreamConnection) {
        self.edge.metrics.evicted.add(1, ordering: .relaxed)
        if connection.transport == .sse {
            // Only EventSource reconnects whatever it is told.
            self.edge.leases.evicted(
                connection.user.user,
                fingerprint: StreamRequest.fingerprint(
                    user: connection.user.user, userAgent: connection.userAgent, lastEventID: connection.cursor.description))
        }
        self.close(connection, .evicted, retry: EdgeConfiguration.evictedRetryMilliseconds)
    }

    func control(_ control: Control) {
        self.eventLoop.assertInEventLoop()
        switch control {
        case .evict(let user, let id):
            guard let connection = self.hubs[user]?.connections.first(where: { $0.id.description == id }) else { return }
            self.edge.foundConnection(connection.id)
            self.evict(connection)
        case .renew(let user, let id, let expiresAt, let customers):
            guard let connection = self.hubs[user]?.connections.first(where: { $0.id.description == id }) else { return }
            if connection.customers.map({ Set($0) }) == customers.map({ Set($0) }) {
                connection.expiry.renew(until: expiresAt, now: Timestamp.now().seconds, lead: self.edge.configuration.authExpiringSeconds)
                self.wheel.schedule(connection, at: self.now + 1, now: self.now)
            } else {
                // The new token may see something else: the stream starts anew with it.
                self.close(connection, .tokenExpired, retry: EdgeConfiguration.retryMilliseconds())
            }
        }
        self.flush()
    }

    /// This loop's part of the answer.
    func answer(to question: EdgeQuestion) -> EdgeAnswer {
        self.eventLoop.assertInEventLoop()
        switch question {
        case .report(_, let after, let limit):
            var report = ConnectionReport(after: after, limit: limit)
            for hub in self.hubs.values { report.add(hub.user, streams: hub.connections.count) }
            return report.answer
        case .disconnect(let user, _):
            let connections = self.hubs[user]?.connections ?? []
            for connection in connections { self.close(connection, .disconnected, retry: EdgeConfiguration.retryMilliseconds()) }
            self.flush()
            return EdgeAnswer(streams: connections.count)
        }
    }

    /// Closes every stream at a moment of its own within the window.
    func drain(window: TimeAmount) {
        self.eventLoop.assertInEventLoop()
        for connection in self.hubs.values.flatMap(\.connections) {
            let moment = TimeAmount.nanoseconds(Int64.random(in: 0...max(1, window.nanoseconds)))
            self.eventLoop.scheduleTask(in: moment) {
                self.close(connection, .draining, retry: EdgeConfiguration.drainRetryMilliseconds())
                self.flush()
            }
        }
    }

    func isOpen(_ lease: Lease) -> Bool { self.hubs[lease.user]?.connection(lease.connection) != nil }

    var leases: [Lease] { self.hubs.values.flatMap(Self.leases) }

    func leases(of users: [UserID]) -> [Lease] { users.compactMap { self.hubs[$0] }.flatMap(Self.leases) }

    private static func leases(of hub: UserHub) -> [Lease] {
        hub.connections.map(\.lease)
    }

    // MARK: Messages, the tail, reconciliation

    func received(_ messages: [UserMessage]) {
        self.eventLoop.assertInEventLoop()
        let mayDeliver = self.mayDeliver()
        self.now = Self.seconds
        var place: LogPosition?
        for message in messages {
            guard let hub = self.hubs[message.user] else { continue }
            if !mayDeliver {
                if message.payload.withUnsafeReadableBytes({ DirectEnvelope.saysKnown($0) }) { hub.isKnown = true }
                // What is dropped now is read from the log afterwards; of a direct event it is only counted.
                if let direct = message.payload.withUnsafeReadableBytes({ DirectEnvelope($0) }) {
                    self.deliver(direct, message.payload, hub.connections, toAll: false, isSuspended: true)
                }
                continue
            }
            guard let envelope = message.payload.withUnsafeReadableBytes({ Envelope($0) }) else {
                if let direct = message.payload.withUnsafeReadableBytes({ DirectEnvelope($0) }) {
                    if hub.isKnown {
                        self.ask(direct, message.payload, hub)
                    } else {
                        self.deliver(direct, message.payload, hub.connections, toAll: false)
                    }
                    continue
                }
                if message.payload.withUnsafeReadableBytes({ DirectEnvelope.saysKnown($0) }) {
                    hub.isKnown = true
                    continue
                }
                // Of another version of this program, most likely: something has changed, and the log has it.
                self.edge.metrics.malformed.add(1, ordering: .relaxed)
                self.input(hub, flushing: false) { $0.reconcile(&$1) }
                continue
            }
            if let other = envelope.place, other != place {
                place = other
                self.edge.identity.advance(heard: other, epoch: envelope.epoch)
            }
            self.received(envelope, message.payload, hub)
        }
        self.flush()
    }

    private func received(_ envelope: Envelope, _ payload: ByteBuffer, _ hub: UserHub) {
        if self.edge.logger.logLevel <= .debug {
            self.edge.logger.debug(
                "changes heard",
                metadata: [
                    "user": "\(hub.user.value)", "first": "\(envelope.epoch)-\(envelope.first)", "last": "\(envelope.epoch)-\(envelope.last)",
                    "streams": "\(hub.connections.count)",
                ])
        }
        if hub.feed.advance(epoch: envelope.epoch, first: envelope.first, last: envelope.last) {
            var written = 0
            for connection in hub.connections where connection.phase == .live {
                if connection.filter == nil {
                    // All frames of the message in one piece.
                    let start = envelope.changes[0].frame.lowerBound
                    if let frames = payload.getSlice(at: payload.readerIndex + start, length: payload.readableBytes - start) {
                        connection.send(frames)
                        connection.cursor = StreamPosition(epoch: envelope.epoch, seq: envelope.last)
                    }
                } else {
                    var position = StreamPosition(epoch: envelope.epoch, seq: envelope.first)
                    for change in envelope.changes {
                        connection.write(StreamItem(change, message: payload), at: position)
                        position.seq += 1
                    }
                }
                written += envelope.changes.count
            }
            self.setAsideUnwritable(hub)
            self.edge.metrics.delivered.add(written, ordering: .relaxed)
            self.edge.metrics.fanout.record(microseconds: Timestamp.now().microseconds - envelope.committedAt.microseconds, times: written)
            return
        }
        if envelope.changes.contains(where: { $0.kind == .erased }) { self.edge.identity.advance(given: envelope.epoch) }
        var entries: [UserFeed.Entry] = []
        entries.reserveCapacity(envelope.changes.count)
        for (index, change) in envelope.changes.enumerated() {
            entries.append(.init(seq: envelope.first + Int64(index), item: StreamItem(change, message: payload)))
        }
        self.input(hub, flushing: false) { $0.receive(epoch: envelope.epoch, entries, &$1) }
    }

    func received(broadcast payload: ByteBuffer) {
        self.eventLoop.assertInEventLoop()
        let mayDeliver = self.mayDeliver()
        self.now = Self.seconds
        guard let direct = payload.withUnsafeReadableBytes({ DirectEnvelope($0) }) else {
            self.edge.metrics.malformed.add(1, ordering: .relaxed)
            return
        }
        self.deliver(direct, payload, self.streams, toAll: true, isSuspended: !mayDeliver)
        self.flush()
    }

    /// Delivers it if the user wants it.
    private func ask(_ direct: DirectEnvelope, _ payload: ByteBuffer, _ hub: UserHub) {
        let subject = payload.withUnsafeReadableBytes { direct.subject(in: $0) }
        let customer = direct.customer.flatMap { CustomerID($0) }
        let answer = self.edge.audience.wants(hub.user, subject, customer: customer, on: self.eventLoop)
        // The answers may come in another order than the events.
        let before = hub.turn ?? self.eventLoop.makeSucceededVoidFuture()
        hub.turn = before.flatMap { answer }.map { isWanted in
            guard isWanted else { return }
            self.deliver(direct, payload, hub.connections, toAll: false, isSuspended: !self.mayDeliver())
            self.flush()
        }
    }

    /// At most once: to those who can take it now. Nothing of it is kept for the others.
    private func deliver(_ direct: DirectEnvelope, _ payload: ByteBuffer, _ connections: [StreamConnection], toAll: Bool, isSuspended: Bool = false) {
        guard let frame = payload.getSlice(at: payload.readerIndex + direct.frameOffset, length: payload.readableBytes - direct.frameOffset) else { return }
        let isForAll = toAll && direct.customer == nil
        let now = self.now
        var written = 0
        var dropped = 0
        for connection in connections {
            // What is for everybody and of no customer is for those as well that asked for one customer's.
            if !isForAll, let filter = connection.filter, !filter.shows(customer: direct.customer) { continue }
            if !isSuspended, connection.phase == .live, connection.say(frame, now: now) { written += 1 } else { dropped += 1 }
        }
        self.edge.metrics.direct.add(written, ordering: .relaxed)
        self.edge.metrics.directDropped.add(dropped, ordering: .relaxed)
        self.edge.metrics.fanout.record(microseconds: Timestamp.now().microseconds - direct.sentAt.microseconds, times: written)
    }

    /// What the commit tail read. Answers how many of the users here had not got what is committed for long enough.
    func tail(_ heads: [(user: UserID, seq: Int64, ageMilliseconds: Int64)]) -> Int {
        self.eventLoop.assertInEventLoop()
        if !self.mayDeliver() { return 0 }
        var late = 0
        for head in heads {
            guard let hub = self.hubs[head.user] else { continue }
            if let position = hub.feed.position {
                if position.seq >= head.seq { continue }
                if head.ageMilliseconds > 250 { late += 1 }
            }
            self.input(hub, flushing: false) { $0.headKnown(head.seq, &$1) }
        }
        self.flush()
        return late
    }

    /// The commit tail read that something is kept of these users.
    func known(_ users: [UserID]) {
        self.eventLoop.assertInEventLoop()
        for user in users { self.hubs[user]?.isKnown = true }
    }

    /// Messages may have been lost, or the data is another: all users are compared with the log.
    func reconcile() {
        self.eventLoop.assertInEventLoop()
        for hub in Array(self.hubs.values) { self.input(hub, flushing: false) { $0.reconcile(&$1) } }
        self.flush()
    }

    /// Messages for these users may have been lost.
    func reconcile(users: [UserID]) {
        self.eventLoop.assertInEventLoop()
        for user in users {
            if let hub = self.hubs[user] { self.input(hub, flushing: false) { $0.reconcile(&$1) } }
        }
        self.flush()
    }

    // MARK: After this process stood still

    /// False after this process stood still for so long that others took its streams' places: until it has taken them again, and those that
    /// are over their user's limit are closed, nothing is delivered.
    private func mayDeliver() -> Bool {
        if self.suspension.isSuspended { return false }
        guard self.suspension.begins(now: .now()) else { return true }
        self.edge.metrics.suspensions.add(1, ordering: .relaxed)
        self.edge.leases.beat().hop(to: self.eventLoop).flatMap { _ in self.edge.reassertLeases(of: self) }.whenComplete { result in
            switch result {
            case .success(let surplus):
                for control in surplus { self.control(control) }
            case .failure:
                // Without Redis there is no limit.
                break
            }
            self.suspension.ended(now: .now(), lastBeat: self.edge.leases.lastBeat)
            let held = self.held
            self.held = []
            for answer in held { answer() }
            self.reconcile()
        }
        return false
    }

    // MARK: The machine's actions

    private func input(_ hub: UserHub, flushing: Bool = true, _ body: (inout UserFeed, inout [UserFeed.Action]) -> Void) {
        var actions: [UserFeed.Action] = []
        body(&hub.feed, &actions)
        for action in actions { self.run(action, hub) }
        if !actions.isEmpty { self.setAsideUnwritable(hub) }
        if flushing { self.flush() }
    }

    private func run(_ action: UserFeed.Action, _ hub: UserHub) {
        switch action {
        case .read(let after):
            // A filter counts back from the head: it needs all changes up to it.
            let whole = hub.connections.contains { $0.filter != nil }
            self.edge.feedReader.read(
                FeedRequest(user: hub.user, after: after, whole: whole) { result in
                    self.eventLoop.execute { self.readCompleted(hub, asked: after, result) }
                })
        case .startGapTimer:
            self.eventLoop.scheduleTask(in: self.edge.configuration.gapDelay) { self.gapTimerFired(hub) }
        case .startRetryTimer:
            self.eventLoop.scheduleTask(in: .milliseconds(Int64.random(in: 300...700))) { self.gapTimerFired(hub) }
        case .deliver(let entries):
            guard let epoch = hub.feed.position?.epoch else { return }
            var written = 0
            for connection in hub.connections where connection.phase == .live {
                for entry in entries {
                    if !connection.takesMore() {
                        self.setAside(connection)
                        break
                    }
                    connection.write(entry.item, at: StreamPosition(epoch: epoch, seq: entry.seq))
                    written += 1
                }
            }
            self.edge.metrics.delivered.add(written, ordering: .relaxed)
        case .ready(let reader, let position):
            guard let connection = hub.connection(reader) else { return }
            connection.writeHead()
            let whole = hub.counts(at: position)
            let counts = connection.filter?.shown(whole) ?? whole
            var bytes: [UInt8] = []
            StreamFrame.appendReady(
                retryMilliseconds: EdgeConfiguration.retryMilliseconds(), position: position, connection: connection.id.description,
                unread: counts.unread, unseen: counts.unseen, node: self.edge.configuration.node, to: &bytes)
            connection.send(ByteBuffer(bytes: bytes))
            connection.cursor = position
        case .replay(let reader, let entries):
            guard let connection = hub.connection(reader), let epoch = hub.feed.position?.epoch else { return }
            self.replay(entries, epoch: epoch, to: connection)
        case .resync(let reader, let position):
            if let connection = hub.connection(reader) { self.resync(connection, hub, position) }
        case .resyncLive(let position):
            for connection in hub.connections where connection.phase == .live { self.resync(connection, hub, position) }
        case .live(let reader):
            guard let connection = hub.connection(reader) else { return }
            guard connection.cursor == hub.feed.position else {
                // It did not take all of its replay.
                self.setAside(connection)
                return
            }
            if connection.phase == .behind { self.edge.metrics.lagging.subtract(1, ordering: .relaxed) }
            connection.phase = .live
            connection.becameLive()
        case .refuse(let reader):
            guard let connection = hub.connection(reader) else { return }
            self.edge.metrics.refused.add(1, ordering: .relaxed)
            self.close(connection, .disconnected, retry: EdgeConfiguration.retryMilliseconds())
        }
    }

    private func resync(_ connection: StreamConnection, _ hub: UserHub, _ position: StreamPosition) {
        self.edge.metrics.resyncs.add(1, ordering: .relaxed)
        let answer = hub.answer?.answer
        connection.filter?.start(customers: answer?.customers ?? "{}", replayed: [], unreadBefore: nil)
        let whole = hub.counts(at: position)
        var bytes: [UInt8] = []
        StreamFrame.appendResync(position: position, unread: (connection.filter?.shown(whole) ?? whole).unread, to: &bytes)
        connection.send(ByteBuffer(bytes: bytes))
        connection.cursor = position
    }

    private func gapTimerFired(_ hub: UserHub) {
        guard !hub.isGone else { return }
        self.input(hub) { $0.gapTimerFired(&$1) }
    }

    private func readCompleted(_ hub: UserHub, asked: StreamPosition?, _ result: Result<FeedAnswer, StoreError>) {
        guard !hub.isGone else { return }
        guard self.mayDeliver() else {
            self.held.append { self.readCompleted(hub, asked: asked, result) }
            return
        }
        switch result {
        case .failure:
            self.input(hub) { $0.readFailed(&$1) }
        case .success(let answer):
            hub.answer = (asked, answer)
            if answer.isKnown { hub.isKnown = true }
            self.prepareFilters(hub, answer)
            if let position = hub.feed.position, answer.head.epoch == position.epoch, answer.head.seq > position.seq {
                self.edge.metrics.gapRepairs.add(1, ordering: .relaxed)
            }
            let entries = answer.changes?.map { UserFeed.Entry(seq: $0.seq, item: StreamItem($0, epoch: answer.head.epoch)) }
            self.input(hub) { $0.readDone(.init(head: answer.head, entries: asked == nil ? nil : entries), &$1) }
            hub.answer = nil
        }
    }

    /// Streams with a filter that are about to be brought up to date start from the counts at their point.
    private func prepareFilters(_ hub: UserHub, _ answer: FeedAnswer) {
        for connection in hub.connections where connection.filter != nil && (connection.phase == .joining || connection.phase == .behind) {
            let point: StreamPosition? =
                if connection.head == nil { connection.cursor } else if case .after(let point) = connection.resume { point } else { nil }
            guard let point, point.epoch == answer.head.epoch, point.seq < answer.head.seq, let changes = answer.changes else {
                connection.filter!.start(customers: answer.customers, replayed: [], unreadBefore: nil)
                continue
            }
            connection.filter!.start(
                customers: answer.customers, replayed: changes.drop { $0.seq <= point.seq }, unreadBefore: hub.counts(at: point))
        }
    }

    // MARK: Slow readers

    func writabilityChanged(_ connection: StreamConnection, isWritable: Bool) {
        self.eventLoop.assertInEventLoop()
        // That it became full is noticed after the next write.
        guard isWritable, connection.isBlocked else { return }
        connection.isBlocked = false
        if connection.phase == .behind { self.input(connection.user) { $0.rejoin(connection.id, after: connection.cursor, &$1) } }
    }

    /// Writes what follows the reader's cursor, for as long as it takes it.
    private func replay(_ entries: [UserFeed.Entry], epoch: Int64, to connection: StreamConnection) {
        var written = 0
        for entry in entries where connection.cursor.epoch == epoch && entry.seq == connection.cursor.seq + 1 {
            if !connection.takesMore() {
                // Nothing more is read for it until it has taken what it has.
                connection.user.feed.leave(connection.id)
                self.setAside(connection)
                break
            }
            connection.write(entry.item, at: StreamPosition(epoch: epoch, seq: entry.seq))
            written += 1
        }
        self.edge.metrics.delivered.add(written, ordering: .relaxed)
    }

    private func setAsideUnwritable(_ hub: UserHub) {
        for connection in hub.connections where connection.phase == .live && !connection.takesMore() { self.setAside(connection) }
    }

    /// Nothing more is written to it until it has read what it has: it is a cursor.
    private func setAside(_ connection: StreamConnection) {
        // The flush that found it full may have found it closed.
        guard connection.phase != .closed else { return }
        if connection.phase != .behind { self.edge.metrics.lagging.add(1, ordering: .relaxed) }
        connection.phase = .behind
        connection.isBlocked = true
        connection.blockedSince = self.now
        if connection.isWritable {
            // It read in between.
            self.eventLoop.execute { self.writabilityChanged(connection, isWritable: true) }
        }
    }

    private func flush() {
        let dirty = self.dirty
        self.dirty.removeAll(keepingCapacity: true)
        for connection in dirty {
            connection.isDirty = false
            connection.flush()
            // One large message may be more than it takes.
            if connection.phase == .live, !connection.isBlocked, connection.channel?.isWritable == false { self.setAside(connection) }
        }
        if self.dirty.capacity > 4096 { self.dirty = [] }
        self.translations.forget()
    }

    // MARK: Time

    private func ticked() {
        if self.mayDeliver() { self.suspension.awake(now: .now(), lastBeat: self.edge.leases.lastBeat) }
        self.now = Self.seconds
        for connection in self.wheel.advance(to: self.now) where connection.phase != .closed {
            self.look(at: connection)
        }
        for session in self.sessions.advance(to: self.now) {
            if let next = session.tick() { self.sessions.schedule(session, at: max(next, self.now + 1), now: self.now) }
        }
        self.flush()
    }

    /// What time asks of this stream; then its next moment.
    private func look(at connection: StreamConnection) {
        let configuration = self.edge.configuration
        if connection.isBlocked, self.now - connection.blockedSince >= configuration.stalledSeconds {
            self.edge.metrics.stalled.add(1, ordering: .relaxed)
            self.close(connection, .stalled, retry: EdgeConfiguration.retryMilliseconds())
            return
        }
        let wallClock = Timestamp.now().seconds
        if wallClock >= connection.expiry.at {
            self.close(connection, .tokenExpired, retry: EdgeConfiguration.retryMilliseconds())
            return
        }
        if connection.head == nil, !connection.isBlocked {
            if connection.expiry.takeWarning(now: wallClock) {
                var bytes: [UInt8] = []
                StreamFrame.appendAuthExpiring(
                    expiresAt: Timestamp(seconds: connection.expiry.at), connection: connection.id.description, to: &bytes)
                connection.send(ByteBuffer(bytes: bytes))
            }
            if self.now - connection.lastWrite >= configuration.pingSeconds {
                connection.ping()
                if connection.phase == .live, !connection.takesMore() { self.setAside(connection) }
            }
        }
        guard connection.phase != .closed else { return }
        if connection.phase == .joining, connection.head != nil, self.now - connection.began > configuration.joinSeconds {
            // The database does not answer. The client tries another edge.
            self.edge.metrics.refused.add(1, ordering: .relaxed)
            self.close(connection, .disconnected, retry: EdgeConfiguration.retryMilliseconds())
            return
        }
        var next = connection.lastWrite + configuration.pingSeconds
        if connection.isBlocked { next = min(connection.blockedSince + configuration.stalledSeconds, self.now + configuration.pingSeconds) }
        next = min(next, self.now + connection.expiry.next(isWarned: connection.isBlocked) - wallClock)
        if connection.phase == .joining { next = self.now + 1 }
        next = min(next, self.now + configuration.stalledSeconds)
        self.wheel.schedule(connection, at: max(next, self.now + 1), now: self.now)
    }
}
