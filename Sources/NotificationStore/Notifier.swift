public import NotificationCore
import Synchronization

/// Plans and writes what one request asks for, in one transaction.
///
/// Of most users nothing is known but what the catalogue says. So a request for one user is written as a guess, which saves the question: the writing
/// function leaves it out when something is known of the user, and it is planned again with that. Users of whom that was learned are remembered.
public final class Notifier: Sendable {
    public struct Counters: Sendable {
        /// Requests that were written as a guess, and those of them that had to be planned again.
        public var guesses = 0
        public var wrongGuesses = 0
        /// Users remembered.
        public var known = 0
    }

    /// What was written, and what became of each of its commands.
    public struct Notified: Sendable {
        public var plan: NotifyPlan
        public var outcomes: [InboxOutcome]
    }

    public typealias Completion = @Sendable (Result<Notified, StoreError>) -> Void

    /// Users who are remembered; one more, and all are forgotten, which costs each of them a guess.
    private static let bound = 100_000

    private struct State {
        var known: Set<UserID> = []
        var guesses = 0
        var wrongGuesses = 0
    }

    private let planner: NotifyPlanner
    private let writer: InboxWriter
    private let state = Mutex(State())

    public init(planner: NotifyPlanner, writer: InboxWriter) {
        self.planner = planner
        self.writer = writer
    }

    public var counters: Counters {
        self.state.withLock { Counters(guesses: $0.guesses, wrongGuesses: $0.wrongGuesses, known: $0.known.count) }
    }

    /// Calls `completion` once all is committed, or nothing is written; on a thread that must not be blocked, perhaps before it returns.
    ///
    /// - Parameters:
    ///   - claim: its answer is filled in.
    ///   - trace: goes with what waits for it: see ``InboxWriter``.
    ///
    /// It fails as ``RecipientReader`` and ``InboxWriter`` do.
    public func notify(_ request: NotifyRequest, claim: IdempotencyClaim? = nil, trace: TraceContext? = nil, now: Timestamp, completion: @escaping Completion) {
        guard let user = self.guessable(request), let guess = self.planner.guess(request, user: user, now: now) else {
            self.ask(request, claim, trace, now, completion)
            return
        }
        self.write(guess, claim, trace) { result in
            guard case .success(let notified) = result, notified.outcomes.contains(where: { $0.status == .known }) else {
                completion(result)
                return
            }
            self.remember(user)
            self.ask(request, claim, trace, now, completion)
        }
    }

    private func ask(_ request: NotifyRequest, _ claim: IdempotencyClaim?, _ trace: TraceContext?, _ now: Timestamp, _ completion: @escaping Completion) {
        self.planner.plan(request, users: request.users, now: now) { result in
            switch result {
            case .success(let plan): self.write(plan, claim, trace, completion)
            case .failure(let error): completion(.failure(error))
            }
        }
    }

    private func write(_ plan: NotifyPlan, _ claim: IdempotencyClaim?, _ trace: TraceContext?, _ completion: @escaping Completion) {
        var claim = claim
        claim?.answer = String(decoding: NotifyAnswer(plan).encode(), as: UTF8.self)
        self.writer.submit(plan.commands, claim: claim, isCall: true, trace: trace) { result in
            completion(result.map { Notified(plan: plan, outcomes: $0) })
        }
    }

    /// The request's only user, unless something is known.
    private func guessable(_ request: NotifyRequest) -> UserID? {
        guard request.users.count == 1, let user = request.users.first else { return nil }
        return self.state.withLock { state in
            if state.known.contains(user) { return nil }
            state.guesses += 1
            return user
        }
    }

    private func remember(_ user: UserID) {
        self.state.withLock { state in
            state.wrongGuesses += 1
            if state.known.count >= Self.bound { state.known.removeAll() }
            state.known.insert(user)
        }
    }
}
