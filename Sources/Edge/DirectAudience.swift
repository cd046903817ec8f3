import NIOCore
import NotificationCore
public import NotificationStore
import Synchronization

/// Whether users of whom something is kept want a direct event in the application.
///
/// Direct events flow without the database: where it does not answer in time they go to all that were named, and for a moment nobody asks it again.
public final class DirectAudience: Sendable {
    /// How long an event waits for the answer.
    private static let patience: TimeAmount = .milliseconds(250)
    /// How long nobody asks after somebody waited in vain.
    private static let pause: Duration = .seconds(1)

    private let reader: RecipientReader
    private let pausedUntil = Mutex<ContinuousClock.Instant?>(nil)
    private let passed = Atomic<Int>(0)

    public init(reader: RecipientReader) {
        self.reader = reader
    }

    /// Events that went to a user since it could not be known what the user prefers.
    public var unchecked: Int { self.passed.load(ordering: .relaxed) }

    /// The answers about one user may come in another order than they were asked for.
    func wants(_ user: UserID, _ subject: DirectEnvelope.Subject, customer: CustomerID?, on eventLoop: any EventLoop) -> EventLoopFuture<Bool> {
        if subject.isRequired { return eventLoop.makeSucceededFuture(true) }
        if let until = self.pausedUntil.withLock({ $0 }), until > .now {
            self.passed.add(1, ordering: .relaxed)
            return eventLoop.makeSucceededFuture(true)
        }
        let promise = eventLoop.makePromise(of: Bool.self)
        let answered = Answered()
        let timer = eventLoop.scheduleTask(in: Self.patience) {
            guard answered.isFirst() else { return }
            self.pausedUntil.withLock { $0 = .now + Self.pause }
            self.passed.add(1, ordering: .relaxed)
            promise.succeed(true)
        }
        self.reader.read([user], customer: customer) { result in
            guard answered.isFirst() else { return }
            timer.cancel()
            switch result {
            case .success(let found): promise.succeed(Self.wants(found[user], subject))
            case .failure:
                self.passed.add(1, ordering: .relaxed)
                promise.succeed(true)
            }
        }
        return promise.futureResult
    }

    private static func wants(_ recipient: Recipient?, _ subject: DirectEnvelope.Subject) -> Bool {
        guard let recipient else { return true }
        return ChannelDecision(
            .inApp, type: subject.type, event: subject.event, own: recipient.own, customer: recipient.customer, required: [], byDefault: true
        ).enabled
    }

    /// Whether the database or the timer was first.
    private final class Answered: Sendable {
        private let flag = Atomic<Bool>(false)
        func isFirst() -> Bool { !self.flag.exchange(true, ordering: .acquiringAndReleasing) }
    }
}
