import NIOCore

extension LoadLoop {
    /// Starts the open loop at `origin`; succeeds when everything was due and is answered or has failed.
    func startSending(origin: UInt64, phase: SendPhase) -> EventLoopFuture<Void> {
        self.phase = phase
        let calls = phase.rate / Double(phase.group)
        let seconds = phase.warmup + phase.duration
        let measured = origin + UInt64(phase.warmup * 1e9)..<origin + UInt64(seconds * 1e9)
        receipt = LatencyRecorder(window: measured, intervals: true)
        slowReceipt = LatencyRecorder(window: measured)
        request = LatencyRecorder(window: measured)
        operation = LatencyRecorder(window: measured)
        tool = LatencyRecorder(window: measured)
        // What goes to all streams is the first process's to send, so that one place knows of all of it.
        let alone = phase.publish == .broadcast
        let (offset, stride) = alone ? (index, plan.loops) : (plan.worker * plan.loops + index, plan.workers * plan.loops)
        let share = alone && plan.worker > 0 ? 0 : calls
        notifications = OpenLoopSchedule(origin: origin, rate: share, seconds: seconds, offset: offset, stride: stride)
        operations = OpenLoopSchedule(origin: origin, rate: share * phase.mix, seconds: seconds, offset: offset, stride: stride)
        let promise = eventLoop.makePromise(of: Void.self)
        sentPromise = promise
        let patience = seconds + plan.requestTimeout + plan.settle
        giveUpAfter(patience)
        tick()
        return promise.futureResult
    }

    /// Sends one notification to each user of this loop, paced by the answers. All of them must fit the window.
    func notifyEach() -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        sentPromise = promise
        for _ in users {
            counters.due += 1
            _ = window.offer(notify(due: monotonicNow()))
        }
        dispatch()
        finishSendingIfDone()
        giveUpAfter(plan.connectTimeout + plan.requestTimeout)
        return promise.futureResult
    }

    /// When the time is up, what still waits has overrun. Only if this part is still the one that is being sent: a timer of an earlier
    /// part must not end a later one.
    private func giveUpAfter(_ seconds: Double) {
        sendings += 1
        let sending = sendings
        eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(seconds * 1e9))) {
            guard sending == self.sendings, let promise = self.sentPromise else { return }
            self.sentPromise = nil
            self.window.abandon()
            promise.succeed()
        }
    }

    private func tick() {
        guard !closing else { return }
        let now = monotonicNow()
        while let due = notifications?.takeDue(at: now) {
            tool.record(due: due, at: now)
            counters.due += UInt64(phase.group)
            _ = window.offer(notify(due: due))
        }
        while let due = operations?.takeDue(at: now) {
            if let request = nextOperation(due: due) { _ = window.offer(request) } else { counters.operationsIdle += 1 }
        }
        dispatch()
        let next = [notifications?.nextDue, operations?.nextDue].compactMap(\.self).min()
        guard let next else { return finishSendingIfDone() }
        let wait = next > now ? Int64(next - now) : 0
        eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(wait)) { self.tick() }
    }

    private func notify(due: UInt64) -> DueRequest {
        let call = CallNumber(loop: plan.worker * plan.loops + index, number: calls)
        calls += 1
        let start = takeUsers()
        if plan.chaos { asked(call, start) }
        return DueRequest(kind: .notify(start: start, call: call), due: due)
    }

    private func nextOperation(due: UInt64) -> DueRequest? {
        guard let kind = nextOperation() else { return nil }
        var request = DueRequest(kind: kind, due: due)
        if plan.chaos { asked(&request) }
        return request
    }

    /// The first user of the next call. A group that fits stays within this loop's users, so that acknowledgements need
    /// no message to another loop.
    private func takeUsers() -> Int {
        let start = nextUser
        nextUser = (nextUser + phase.group) % (groupIsLocal ? users.count : plan.users.count)
        return start
    }

    private var groupIsLocal: Bool { phase.group <= users.count }

    func userIndex(_ start: Int, _ offset: Int) -> Int {
        groupIsLocal ? users[(start + offset) % users.count].index : (start + offset) % plan.users.count
    }

    /// An operation on some user of this loop that has something to operate on, looking at a bounded number of them.
    private func nextOperation() -> DueRequest.Kind? {
        let kind = random.next()
        for _ in 0..<min(users.count, 64) {
            let user = users[operationUser % users.count]
            operationUser = (operationUser + 1 + random.random(below: 7)) % users.count
            switch kind {
            case .readAll:
                if user.acknowledgedSeq > 0 { return .readAll(user) }
            case .read:
                if let id = user.takeForRead() { return .read(user, id) }
            case .delete:
                if let id = user.takeForDelete() { return .delete(user, id) }
            }
        }
        return nil
    }

    // MARK: The pool

    func dispatch() {
        while let connection = free.first, !window.waiting.isEmpty {
            free.removeFirst()
            guard connections[ObjectIdentifier(connection)] != nil, let request = window.take() else { continue }
            let now = monotonicNow()
            if plan.chaos { learned(request, .doubtful, at: now) }
            connection.send(request, bytes(of: request, for: connection.target), at: now)
        }
        let limit = max(1, plan.publishConnections / plan.loops)
        while connecting.count < window.waiting.count, connections.count + connecting.count < limit { openConnection() }
    }

    private func openConnection() {
        guard !closing else { return }
        // Round robin, each loop beginning elsewhere.
        let target = plan.publishTargets[(connectionsOpened + index) % plan.publishTargets.count]
        connectionsOpened += 1
        let connection = RequestConnection(target: target, load: self)
        connecting[ObjectIdentifier(connection)] = connection
        connection.connect(to: target.address)
    }

    func connectionRefused(_ connection: RequestConnection) {
        connecting[ObjectIdentifier(connection)] = nil
        guard !closing else { return }
        // One request fails for one connection that failed; else a dead server would be asked for ever.
        if let request = window.take() { failed(request, "connect failed") }
        dispatch()
    }

    func connectionOpened(_ connection: RequestConnection) {
        connecting[ObjectIdentifier(connection)] = nil
        guard !closing else { return connection.close() }
        connections[ObjectIdentifier(connection)] = connection
        connectionFree(connection)
    }

    func connectionFree(_ connection: RequestConnection) {
        free.append(connection)
        dispatch()
    }

    func connectionClosed(_ connection: RequestConnection, unanswered: DueRequest?, reason: String) {
        connections[ObjectIdentifier(connection)] = nil
        free.removeAll { $0 === connection }
        if let unanswered { failed(unanswered, reason) }
        if !closing { dispatch() }
    }

    private func failed(_ request: DueRequest, _ reason: String) {
        if !closing { counters.requestErrors[reason, default: 0] += 1 }
        if case .notify(let start, let call) = request.kind, phase.publish != .notify { tell(of: call, start, accepted: false) }
        completed(request)
    }

    private func completed(_ request: DueRequest) {
        window.complete()
        if request.isQuestion {
            countsAsked -= 1
            if countsAsked == 0 {
                let promise = countsPromise
                countsPromise = nil
                promise?.succeed()
            }
        }
        finishSendingIfDone()
    }

    private func finishSendingIfDone() {
        guard sentPromise != nil, window.outstanding == 0, notifications?.nextDue == nil, operations?.nextDue == nil else { return }
        let promise = sentPromise
        sentPromise = nil
        promise?.succeed()
    }

    // MARK: Requests and answers

    private func bytes(of request: DueRequest, for target: Target) -> ByteBuffer {
        var buffer = ByteBuffer()
        switch request.kind {
        case .notify(let start, let call):
            counters.sent += UInt64(phase.group)
            guard plan.adapter.isCarillon else {
                let payload = Adapter.payload(run: plan.runID, due: request.due - plan.origin, call: call)
                let (line, body) = plan.adapter.publication(to: plan.channel(ofUser: userIndex(start, 0)), payload)
                head(line, nil, target, body.utf8.count, &buffer)
                buffer.writeString(body)
                return buffer
            }
            var body = ByteBuffer()
            body.writeString("{\"type\":\"SYSTEM\",\"title\":\"Load test\",\"content\":\"A notification of the load generator\",")
            if phase.publish == .broadcast {
                body.writeString("\"broadcast\":true")
            } else {
                body.writeString("\"user_ids\":[")
                for offset in 0..<phase.group {
                    if offset > 0 { body.writeString(",") }
                    body.writeString(plan.users[userIndex(start, offset)].json)
                }
                body.writeString("]")
            }
            body.writeString(",\"data\":{\"due\":\(request.due - plan.origin),\"run\":\"\(plan.runID)\"}")
            if plan.chaos { body.writeString(",\"rec_type\":\"\(plan.runID)\",\"rec_id\":\"\(call)\"") }
            // What is accepted without ids and numbers is told apart by the call's.
            if phase.publish != .notify { body.writeString(",\"rec_type\":\"loadtest\",\"rec_id\":\"\(call)\"") }
            body.writeString("}")
            head(phase.publish.route, plan.apiKey, target, body.readableBytes, &buffer)
            buffer.writeBuffer(&body)
        case .read(let user, let id):
            counters.operationsSent += 1
            head("PATCH /v1/notifications/\(id)/read", plan.users[user.index].token, target, 0, &buffer)
        case .delete(let user, let id):
            counters.operationsSent += 1
            head("DELETE /v1/notifications/\(id)", plan.users[user.index].token, target, nil, &buffer)
        case .readAll(let user):
            counters.operationsSent += 1
            head("POST /v1/notifications/read-all", plan.users[user.index].token, target, 0, &buffer)
        case .count(let user):
            head("GET /v1/notifications/count", plan.users[user.index].token, target, nil, &buffer)
        case .inbox(let user, let cursor):
            let page = "GET /v1/notifications?limit=200&order=newest&archived=all" + (cursor.map { "&after=" + percentEncoded($0) } ?? "")
            head(page, plan.users[user.index].token, target, nil, &buffer)
        }
        return buffer
    }

    private func head(_ line: String, _ credential: String?, _ target: Target, _ length: Int?, _ buffer: inout ByteBuffer) {
        buffer.writeString(line)
        buffer.writeString(" HTTP/1.1\r\nHost: ")
        buffer.writeString(target.hostHeader)
        buffer.writeString("\r\nAccept: application/json")
        if let credential {
            buffer.writeString("\r\nAuthorization: Bearer ")
            buffer.writeString(credential)
        }
        if let length {
            buffer.writeString("\r\nContent-Type: application/json\r\nContent-Length: ")
            buffer.writeString("\(length)")
        }
        buffer.writeString("\r\n\r\n")
    }

    func answered(_ due: DueRequest, status: Int, body: UnsafeRawBufferPointer, at now: UInt64) {
        if due.isNotify { request.record(due: due.due, at: now) } else if !due.isQuestion { operation.record(due: due.due, at: now) }
        guard (200..<300).contains(status) else {
            if plan.chaos { learned(due, status >= 500 || status == 429 ? .doubtful : .refused, at: now) }
            return failed(due, "\(status)")
        }
        if plan.chaos { learned(due, .accepted, at: now) }
        do throws(LoadtestError) {
            switch due.kind {
            case .notify(let start, let call):
                let expected = phase.publish.status
                // A rival says in its own way whether anybody listened.
                guard status == expected || !plan.adapter.isCarillon else { return failed(due, "\(status) instead of \(expected)") }
                if phase.publish == .notify {
                    try acknowledged(body, due, at: now)
                } else {
                    counters.acknowledged += UInt64(phase.group)
                    tell(of: call, start, accepted: true)
                }
            case .read(let user, let id):
                counters.operationsDone += 1
                user.wasRead(id)
            case .delete:
                counters.operationsDone += 1
            case .readAll(let user):
                counters.operationsDone += 1
                if plan.chaos { user.evidence.operations[due.operation].updated = try UserEvidence.updated(body) }
            case .count(let user):
                try counted(user, body)
            case .inbox(let user, _):
                try listed(user, body)
            }
        } catch {
            return failed(due, "answer malformed")
        }
        completed(due)
    }

    private func acknowledged(_ body: UnsafeRawBufferPointer, _ due: DueRequest, at now: UInt64) throws(LoadtestError) {
        var others: [Int: [Acknowledgement]] = [:]
        var reader = JSONReader(body)
        var count = 0
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("notifications") {
                try reader.array { (reader) throws(LoadtestError) in
                    count += 1
                    guard let acknowledgement = try Acknowledgement(&reader, plan) else { return }
                    if let user = local(acknowledgement.user) {
                        acknowledge(acknowledgement, user)
                        if plan.chaos, case .notify(_, let call) = due.kind {
                            user.evidence.acknowledgements.append(
                                .init(call: call, id: acknowledgement.id, seq: acknowledgement.seq, at: now)
                            )
                        }
                    } else {
                        others[plan.loop(ofUser: acknowledgement.user), default: []].append(acknowledgement)
                    }
                }
            } else if key.matches("skipped") {
                try reader.array { (reader) throws(LoadtestError) in
                    counters.skipped += 1
                    try reader.skip()
                }
            } else {
                try reader.skip()
            }
        }
        counters.acknowledged += UInt64(count)
        for (loop, acknowledgements) in others {
            let peer = peers[loop]
            peer.eventLoop.execute { peer.bound.value.acknowledge(acknowledgements) }
        }
    }

    /// Tells every loop which of its streams have to show this call, or may.
    private func tell(of call: CallNumber, _ start: Int, accepted: Bool) {
        guard phase.publish != .broadcast else {
            for peer in peers { peer.eventLoop.execute { peer.bound.value.expect(call, of: nil, accepted: accepted) } }
            if plan.workers > 1 { relay(RelayedCall(call: call, accepted: accepted, at: monotonicNow())) }
            return
        }
        var shares: [Int: [Int]] = [:]
        for offset in 0..<phase.group {
            let user = userIndex(start, offset)
            shares[plan.loop(ofUser: user), default: []].append(user)
        }
        for (loop, share) in shares {
            let peer = peers[loop]
            if loop == index { expect(call, of: share, accepted: accepted) } else {
                peer.eventLoop.execute { peer.bound.value.expect(call, of: share, accepted: accepted) }
            }
        }
    }

    /// `named` nil: all users. A direct event is owed only to a stream that is live.
    private func expect(_ call: CallNumber, of named: [Int]?, accepted: Bool) {
        for user in named.map({ $0.compactMap(local) }) ?? users {
            for stream in user.streams where !accepted || !phase.publish.isDirect || stream.phase == .live {
                // One that has not joined yet may do so after the notification was made, or before.
                if accepted, stream.checker.sequence.position != nil || phase.publish.isDirect { stream.calls.accept(call) } else { stream.calls.doubt(call) }
            }
        }
    }

    /// Calls kept until they are taken, once a second.
    private static let relayedAtMost = 1 << 20

    private func relay(_ call: RelayedCall) {
        if relayed.count < Self.relayedAtMost { relayed.append(call) } else { counters.requestErrors["too many to relay", default: 0] += 1 }
    }

    func takeRelayedCalls() -> [RelayedCall] {
        defer { relayed = [] }
        return relayed
    }

    /// What another process sent to all is owed by a stream that has been live since before the answer.
    func expect(_ calls: [RelayedCall]) {
        for call in calls {
            for stream in streams where !call.accepted || stream.phase == .live && stream.openedAt <= call.at {
                if call.accepted { stream.calls.accept(call.call) } else { stream.calls.doubt(call.call) }
            }
        }
    }

    private func acknowledge(_ acknowledgements: [Acknowledgement]) {
        for acknowledgement in acknowledgements {
            if let user = local(acknowledgement.user) { acknowledge(acknowledgement, user) }
        }
    }

    private func acknowledge(_ acknowledgement: Acknowledgement, _ user: UserState) {
        user.acknowledgedSeq = max(user.acknowledgedSeq, acknowledgement.seq)
        for stream in user.streams { stream.checker.acknowledge(acknowledgement.id, seq: acknowledgement.seq) }
    }

    private func counted(_ user: UserState, _ body: UnsafeRawBufferPointer) throws(LoadtestError) {
        var reader = JSONReader(body)
        var unread: Int64?
        var unseen: Int64?
        var head: StreamPosition?
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("unseen") {
                unseen = try reader.integerIfAny()
            } else if key.matches("unread") {
                unread = try reader.integerIfAny()
            } else if key.matches("last_event_id") {
                head = try reader.stringIfAny().flatMap { StreamPosition($0.bytes) }
            } else {
                try reader.skip()
            }
        }
        guard let unread, let head else { throw .malformed("A count without unread and last_event_id") }
        user.unread = unread
        user.head = head
        if plan.chaos { user.evidence.count = .init(unread: unread, unseen: unseen ?? -1, position: head) }
    }

    /// Asks the API for the count of up to `limit` users, evenly chosen; succeeds when all have answered or failed.
    func askCounts(limit: Int) -> EventLoopFuture<Void> {
        let chosen = stride(from: 0, to: users.count, by: max(1, (users.count + max(1, limit) - 1) / max(1, limit))).prefix(limit)
        let now = monotonicNow()
        for index in chosen where window.offer(DueRequest(kind: .count(users[index]), due: now)) { countsAsked += 1 }
        return questionsAnswered()
    }

    /// Asks the API for the inboxes that streams have been mirroring, page by page; succeeds when all are there or have failed.
    func askInboxes() -> EventLoopFuture<Void> {
        let now = monotonicNow()
        for user in users where user.mirror?.isCertain == true {
            user.listed = [:]
            if window.offer(DueRequest(kind: .inbox(user, after: nil), due: now)) { countsAsked += 1 }
        }
        return questionsAnswered()
    }

    private func listed(_ user: UserState, _ body: UnsafeRawBufferPointer) throws(LoadtestError) {
        let page = try InboxPage(body, run: runID)
        user.listed.merge(page.entries) { _, new in new }
        if let next = page.next {
            if window.offer(DueRequest(kind: .inbox(user, after: next), due: monotonicNow())) { countsAsked += 1 }
            return
        }
        guard let head = page.head else { throw .malformed("An inbox without last_event_id") }
        defer { user.listed = [:] }
        guard let wrong = user.mirror?.differences(from: user.listed, at: head) else { return }
        inboxesCompared += 1
        inboxWrong += wrong
    }

    private func questionsAnswered() -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        guard countsAsked > 0 else {
            promise.succeed()
            return promise.futureResult
        }
        countsPromise = promise
        countings += 1
        let counting = countings
        eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64((plan.requestTimeout + plan.settle) * 1e9))) {
            guard counting == self.countings, let promise = self.countsPromise else { return }
            self.countsPromise = nil
            self.window.abandon()
            promise.succeed()
        }
        dispatch()
        return promise.futureResult
    }
}

/// For a value in a query (RFC 3986 section 2.3).
private func percentEncoded(_ text: String) -> String {
    text.utf8.reduce(into: "") { encoded, byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
            encoded.unicodeScalars.append(Unicode.Scalar(byte))
        default: encoded += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
    }
}

/// One entry of the answer to `notify`.
struct Acknowledgement: Sendable {
    let id: NotificationID
    let user: Int
    let seq: UInt64

    /// Nil for a notification without a number (stored for tracking, or scheduled).
    init?(_ reader: inout JSONReader, _ plan: RunPlan) throws(LoadtestError) {
        var id: NotificationID?
        var user: Int?
        var seq: UInt64?
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("id") {
                id = try reader.stringIfAny().flatMap { NotificationID($0.bytes) }
            } else if key.matches("user_id") {
                user = try reader.stringIfAny().flatMap { plan.userIndex[$0.string] }
            } else if key.matches("seq") {
                seq = try reader.integerIfAny().flatMap { UInt64(exactly: $0) }
            } else {
                try reader.skip()
            }
        }
        guard let id, let user else { throw .malformed("An acknowledgement without the id or a user of this run") }
        guard let seq else { return nil }
        self.id = id
        self.user = user
        self.seq = seq
    }
}
