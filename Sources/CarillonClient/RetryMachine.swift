/// When a request may be sent again.
public enum RetrySafety: Sendable, CaseIterable {
    /// Whatever became of it: carried out twice it has the same effect as once, by its nature or by its `Idempotency-Key`.
    case always
    /// Only when it was certainly not carried out: the connection was never made, or the service refused it (429).
    case whenRefused
    /// Its body can be sent only once.
    case never
}

/// Whether, and after what pause, a request is sent again. No I/O: what became of an attempt goes in, the pause comes out.
struct RetryMachine {
    enum Outcome: Sendable, Equatable {
        /// - Parameter retryAfter: as the answer asked.
        case status(Int, retryAfter: Duration?)
        /// It was never sent.
        case noConnection
        /// It was sent, at least in part, and not answered.
        case noAnswer
    }

    private let safety: RetrySafety
    private let configuration: CarillonClient.Configuration
    private(set) var attempts = 0

    init(_ safety: RetrySafety, _ configuration: CarillonClient.Configuration) {
        self.safety = safety
        self.configuration = configuration
    }

    /// - Parameter random: 0 to 1.
    /// - Returns: The pause before the next attempt; nil: there is none.
    mutating func pause(after outcome: Outcome, random: Double) -> Duration? {
        self.attempts += 1
        guard self.attempts < self.configuration.attempts, self.isRepeated(outcome) else { return nil }
        // Doubling is bounded before it can overflow.
        let doubled = self.configuration.firstPause * (1 << min(self.attempts - 1, 20))
        let pause = min(doubled, self.configuration.longestPause) * (1 - random / 2)
        guard case .status(_, let wanted?) = outcome else { return pause }
        return wanted <= self.configuration.longestPause ? max(wanted, pause) : nil
    }

    private func isRepeated(_ outcome: Outcome) -> Bool {
        switch (self.safety, outcome) {
        case (.never, _): false
        case (.always, .noConnection), (.always, .noAnswer), (.whenRefused, .noConnection): true
        case (.whenRefused, .noAnswer): false
        // 502 and 504 are a load balancer's, whose own connection broke; 409: the first attempt is still under way.
        case (.always, .status(let status, _)): [409, 429, 502, 503, 504].contains(status)
        // A 503 may have come after some of it went out.
        case (.whenRefused, .status(let status, _)): status == 429
        }
    }
}
