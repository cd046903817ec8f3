import NIOCore
import NotificationCore
public import NotificationStore
import Synchronization

/// Who of the users of a direct event wants it in the application.
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

    /// Events that went to all of their users, since it could not be known what these prefer.
    public var unchecked: Int { self.passed.load(ordering: .relaxed) }

    func users(of event: NotifyRequest, on eventLoop: any EventLoop) -> EventLoopFuture<[UserID]> {
        let promise = eventLoop.makePromise(of: [UserID].self)
        if let until = self.pausedUntil.withLock({ $0 }), until > .now {
            self.passed.add(1, ordering: .relaxed)
            promise.succeed(event.users)
            return promise.futureResult
        }
        let answered = Answered()
        let timer = eventLoop.scheduleTask(in: Self.patience) {
            guard answered.isFirst() else { return }
            self.pausedUntil.withLock { $0 = .now + Self.pause }
            self.passed.add(1, ordering: .relaxed)
            promise.succeed(event.users)
        }
        let start: [UserID] = []
        self.reader.fold(event.users[...], customer: event.customer, into: start, { $0 + Self.willing($1, $2, event) }) { result in
            guard answered.isFirst() else { return }
            timer.cancel()
            switch result {
            case .success(let users): promise.succeed(users)
            case .failure:
                self.passed.add(1, ordering: .relaxed)
                promise.succeed(event.users)
            }
        }
        return promise.futureResult
    }

    private static func willing(_ users: [UserID], _ found: RecipientReader.Found, _ event: NotifyRequest) -> [UserID] {
        if found.isEmpty { return users }
        return users.filter { user in
            guard let recipient = found[user] else { return true }
            return ChannelDecision(
                .inApp, type: event.type, event: event.event, own: recipient.own, customer: recipient.customer, required: event.required, byDefault: true
            ).enabled
        }
    }

    /// Whether the database or the timer was first.
    private final class Answered: Sendable {
        private let flag = Atomic<Bool>(false)
        func isFirst() -> Bool { !self.flag.exchange(true, ordering: .acquiringAndReleasing) }
    }
}
