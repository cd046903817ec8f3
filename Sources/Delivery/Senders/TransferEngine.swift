public import NotificationCore
import PostgresClient

/// Carries out transfers, many at once, on one thread of its own, through libcurl's multi interface.
///
/// It keeps connections for the next transfers. A connection that was made with a guard is used with that guard only: engines share nothing.
public final class TransferEngine: Sendable {
    public struct Settings: Sendable {
        /// Which addresses may be connected to; nil: all.
        public var addresses: AddressGuard?
        /// A PEM file of the certificates that are trusted, in place of the system's.
        public var certificates: String?
        /// Transfers under way.
        public var atOnce = 256
        /// Transfers that wait for one of those to end; one more is refused.
        public var waiting = 1024
        /// No fewer than `atOnce`: to make room libcurl closes a connection to a mail server with a goodbye, and waits for the answer.
        public var idleConnections = 256

        public init(addresses: AddressGuard? = nil, certificates: String? = nil) {
            self.addresses = addresses
            self.certificates = certificates
        }
    }

    private let mailbox: TransferMailbox
    private let multi: MultiHandle
    private let loop: TransferLoop

    /// Transfers under way, for the metrics.
    public var transfers: Int { self.loop.transfers }

    /// Starts its thread. Nil when the system has no memory, descriptor or thread left.
    public init?(_ settings: Settings = Settings()) {
        guard let multi = MultiHandle(idleConnections: settings.idleConnections) else { return nil }
        let mailbox = TransferMailbox(bound: settings.waiting)
        let loop = TransferLoop(settings: settings, mailbox: mailbox, multi: multi)
        guard let thread = OSThread({ loop.run() }) else { return nil }
        thread.detach()
        (self.multi, self.mailbox, self.loop) = (multi, mailbox, loop)
    }

    /// The thread ends by itself.
    deinit {
        self.mailbox.close()
        self.multi.wakeUp()
    }

    /// - Throws: ``TransferError``; `cancelled` soon after its task was.
    func perform(_ request: TransferRequest) async throws(TransferError) -> TransferAnswer {
        let id = self.mailbox.makeID()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Result<TransferAnswer, TransferError>, Never>) in
                let submission = TransferMailbox.Submission(id: id, request: request) { continuation.resume(returning: $0) }
                if Task.isCancelled {
                    continuation.resume(returning: .failure(TransferError(code: .cancelled, message: "cancelled")))
                } else if self.mailbox.offer(submission) {
                    // Of a cancellation between the look and the offer the thread has heard too early.
                    if Task.isCancelled { self.mailbox.cancel(id) }
                    self.multi.wakeUp()
                } else {
                    continuation.resume(returning: .failure(TransferError(code: .overloaded, message: "too many transfers wait here")))
                }
            }
        } onCancel: {
            self.mailbox.cancel(id)
            self.multi.wakeUp()
        }
        return try result.get()
    }

    /// Gives up what is under way, and waits for the thread's end.
    public func close() async {
        self.mailbox.close()
        self.multi.wakeUp()
        await self.mailbox.waitUntilFinished()
    }
}
