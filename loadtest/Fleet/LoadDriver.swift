/// What a run asks of those that hold the streams and send: the event loops of this process, or several processes.
protocol LoadDriver: Sendable {
    var plan: RunPlan { get }
    /// Opens the first so many streams, and closes the others.
    func hold(_ connections: Int) async throws
    func dropAndResume() async throws
    func send(origin: UInt64, phase: SendPhase) async throws
    /// Slow readers read as fast as the others from now on.
    func hurry() async throws
    func markCaughtUpTargets() async throws
    func streamsNotCaughtUp() async throws -> Int
    func askCounts() async throws
    func askInboxes() async throws
    func counters() async throws -> LoopCounters
    func streamsBehind() async throws -> Int
    func result() async throws -> LoopResult
    /// What is known of the clocks of other machines, asked now.
    func clocks() async throws -> [ClockCheck]
    func stop() async throws
}

extension LoadDriver {
    /// Waits until every stream has shown what it has to, or nothing has come for `plan.settle` seconds.
    func settle() async throws {
        var last = try await counters().receivedBytes
        var since = monotonicNow()
        while try await streamsBehind() > 0 {
            try await Task.sleep(for: .milliseconds(20))
            let now = monotonicNow()
            let received = try await counters().receivedBytes
            if received != last { (last, since) = (received, now) }
            if Double(now - since) / 1e9 >= plan.settle { return }
        }
    }
}

/// How another machine's clock stands to this one's.
struct ClockCheck: Codable, Sendable, Equatable {
    var worker: String
    /// Milliseconds that the other's CLOCK_MONOTONIC is ahead, and how far off that may be: half of the fastest exchange.
    var offset: Double
    var error: Double
    /// Milliseconds that the offset has moved since the run began.
    var drift: Double

    /// Exchanges of one check.
    static let exchanges = 24
    /// Milliseconds of error past which a run is refused.
    static let errorAtMost = 5.0
}

/// The best of several exchanges, as NTP takes it (RFC 5905 section 8): the fastest one says most.
struct ClockEstimate: Equatable {
    /// Nanoseconds that the other clock is ahead.
    private(set) var offset: Int64 = 0
    /// Nanoseconds: the truth is within the offset, give or take this.
    private(set) var error = UInt64.max

    mutating func exchange(sent: UInt64, theirs: UInt64, received: UInt64) {
        let half = (received - sent) / 2
        guard half < error else { return }
        error = half
        offset = Int64(bitPattern: theirs &- (sent + half))
    }
}
