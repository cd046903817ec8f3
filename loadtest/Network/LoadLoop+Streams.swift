import NIOCore

extension LoadLoop {
    /// Opens the first so many streams of the run, paced, and closes the others; succeeds when each is ready, refused for good, or out of time.
    func hold(_ connections: Int) -> EventLoopFuture<Void> {
        wanted = 0
        for stream in streams {
            if stream.index < connections {
                wanted += 1
                guard stream.phase == .parked else { continue }
                stream.phase = .queued
                opening.append(stream)
            } else {
                park(stream)
            }
        }
        return startOpening()
    }

    /// What it has not shown is not asked of it any more, unless it comes back: then it resumes where it stopped.
    private func park(_ stream: StreamState) {
        switch stream.phase {
        case .live:
            counters.live -= 1
            if phase.publish.isDirect { stream.calls.forget() }
        case .opening: opensPending -= 1
        case .queued, .away, .parked: break
        case .gone: return
        }
        stream.phase = .parked
        stream.connection?.close()
    }

    /// Drops every live stream and has it resume; succeeds when each is back.
    func dropAndResume() -> EventLoopFuture<Void> {
        for stream in streams where stream.phase == .live {
            stream.dropping = true
            stream.phase = .queued
            if phase.publish.isDirect { stream.calls.forget() }
            counters.live -= 1
            stream.connection?.close()
        }
        return startOpening()
    }

    /// Remembers what every stream has to show by now; to be asked about with ``streamsNotCaughtUp()``.
    func markCaughtUpTargets() { caughtUpTargets = streams.map(\.user.acknowledgedSeq) }

    func streamsNotCaughtUp() -> Int {
        zip(streams, caughtUpTargets).lazy.filter { stream, target in stream.phase != .parked && (stream.checker.sequence.position?.seq ?? 0) < target }.count
    }

    private func startOpening() -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        let now = monotonicNow()
        readyPromise = promise
        readyDeadline = now + UInt64(plan.connectTimeout * 1e9)
        openAllowance = OpenAllowance(since: now)
        pumpOpens()
        finishOpeningIfDone()
        return promise.futureResult
    }

    private func pumpOpens() {
        guard !closing else { return }
        let allowed = Double(monotonicNow() - openAllowance.since) / 1e9 * Double(plan.connectRate) / Double(plan.loops)
        while opensPending < max(1, plan.openingAtOnce / plan.loops), openAllowance.opened <= allowed, let stream = opening.popFirst() {
            guard stream.phase == .queued else { continue }
            openAllowance.opened += 1
            open(stream)
        }
        guard readyPromise != nil else { return }
        eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(2)) { self.pumpOpens() }
    }

    private func open(_ stream: StreamState) {
        guard !closing else { return }
        stream.phase = .opening
        stream.openedAt = monotonicNow()
        opensPending += 1
        let connection = StreamConnection(stream: stream, load: self)
        stream.connection = connection
        let source = plan.source(ofStream: stream.index).flatMap { try? SocketAddress(ipAddress: $0, port: 0) }
        connection.connect(to: plan.targets[stream.index % plan.targets.count], from: source)
    }

    func streamRequest(_ stream: StreamState) -> ByteBuffer {
        var buffer = ByteBuffer()
        let target = plan.targets[stream.index % plan.targets.count]
        if plan.adapter.isCarillon {
            buffer.writeString("GET /v1/notifications/sse")
        } else {
            buffer.writeString("GET /sub/\(plan.channel(ofUser: stream.user.index))")
        }
        buffer.writeString(" HTTP/1.1\r\nHost: ")
        buffer.writeString(target.hostHeader)
        buffer.writeString("\r\nAccept: text/event-stream\r\nCache-Control: no-cache")
        if plan.adapter.isCarillon {
            buffer.writeString("\r\nAuthorization: Bearer ")
            buffer.writeString(plan.users[stream.user.index].token)
        }
        if let position = stream.checker.sequence.position {
            buffer.writeString("\r\nLast-Event-ID: ")
            buffer.writeString(position.description)
        }
        buffer.writeString("\r\n\r\n")
        return buffer
    }

    func received(_ event: StreamEvent, on stream: StreamState, at now: UInt64) {
        if stream.isMirrored { stream.user.mirror?.apply(event) }
        if plan.chaos, let record = StreamRecord(event, at: now) { stream.records.append(record) }
        switch stream.checker.receive(event) {
        case .joined:
            ready(stream, at: now)
        case .resumed:
            counters.resumed += 1
            ready(stream, at: now)
        case .created(let id, let due, let call):
            counters.received += 1
            shown(due, call, on: stream, at: now)
            if let id, stream.isFirst { stream.user.shown(id) }
        case .direct(let due, let call):
            counters.received += 1
            shown(due, call, on: stream, at: now)
        case .closing(let reason):
            counters.closed[reason, default: 0] += 1
        case .changed, .repeated, .resynced, .unnumbered, .malformed:
            break
        }
    }

    private func shown(_ due: UInt64?, _ call: CallNumber?, on stream: StreamState, at now: UInt64) {
        // Only what is of this run has a due time.
        guard let due else { return }
        if stream.slow { slowReceipt.record(due: due + plan.origin, at: now) } else { receipt.record(due: due + plan.origin, at: now) }
        if phase.publish != .notify, let call { stream.calls.show(call) }
    }

    /// A rival's stream is live with the head of its answer.
    func answeredWithStream(_ stream: StreamState, at now: UInt64) {
        if !plan.adapter.isCarillon { ready(stream, at: now) }
    }

    private func ready(_ stream: StreamState, at now: UInt64) {
        guard stream.phase == .opening else { return }
        stream.phase = .live
        opensPending -= 1
        counters.live += 1
        counters.everReady += 1
        counters.lastReadyAt = now
        connect.record(due: stream.openedAt, at: now)
        stream.openedAt = now
        finishOpeningIfDone()
    }

    func streamEnded(_ stream: StreamState, connection: StreamConnection) {
        guard stream.connection === connection else { return }
        stream.connection = nil
        guard !closing else { return }
        switch stream.phase {
        case .opening:
            let reason = connection.failure ?? "closed before ready"
            // A client error other than "too many" stays the same however often one asks.
            let forGood = !plan.chaos && reason.count == 3 && reason.hasPrefix("4") && reason != "429"
            refused(stream, reason, forGood: forGood)
        case .live:
            counters.live -= 1
            counters.disconnected += 1
            if phase.publish.isDirect { stream.calls.forget() }
            reopenLater(stream)
        case .parked:
            break
        case .queued:
            guard stream.dropping else { return }
            stream.dropping = false
            opening.append(stream)
        case .away, .gone:
            break
        }
    }

    private func refused(_ stream: StreamState, _ reason: String, forGood: Bool) {
        guard stream.phase == .opening, !closing else { return }
        opensPending -= 1
        counters.refused[reason, default: 0] += 1
        if forGood {
            stream.phase = .gone
            gone += 1
            finishOpeningIfDone()
        } else {
            reopenLater(stream)
        }
    }

    /// After what the server's `retry:` asked for, give or take a half, so that many do not come back at once.
    private func reopenLater(_ stream: StreamState) {
        stream.phase = .away
        let base = Int(min(stream.retry, 120_000))
        let delay = plan.chaos ? base : base / 2 + random.random(below: max(1, base))
        eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(Int64(delay))) {
            guard stream.phase == .away else { return }
            self.open(stream)
        }
    }

    private func finishOpeningIfDone() {
        guard readyPromise != nil, counters.live + gone >= wanted else { return }
        finishOpening()
    }

    func finishOpening() {
        let promise = readyPromise
        readyPromise = nil
        promise?.succeed()
    }
}
