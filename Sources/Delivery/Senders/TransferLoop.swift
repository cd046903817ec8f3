import CCurl
import Glibc
import Synchronization

/// What the engine's thread does: begins what waits, drives what is under way, tells what ended.
final class TransferLoop: Sendable {
    /// Without any event it looks around this often.
    private static let pause: Int32 = 1000

    private let settings: TransferEngine.Settings
    private let mailbox: TransferMailbox
    private let multi: MultiHandle
    private let running = Atomic<Int>(0)

    init(settings: TransferEngine.Settings, mailbox: TransferMailbox, multi: MultiHandle) {
        self.settings = settings
        self.mailbox = mailbox
        self.multi = multi
    }

    var transfers: Int { self.running.load(ordering: .relaxed) }

    /// Until the mailbox is closed.
    func run() {
        // The TLS library writes to sockets that their other end may have closed.
        var pipes = sigset_t()
        sigemptyset(&pipes)
        sigaddset(&pipes, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &pipes, nil)
        var underWay: [UInt64: (transfer: Transfer, completion: TransferMailbox.Completion)] = [:]
        func end(_ id: UInt64, _ result: (Transfer) -> Result<TransferAnswer, TransferError>) {
            guard let (transfer, completion) = underWay.removeValue(forKey: id) else { return }
            let outcome = result(transfer)
            self.multi.remove(transfer)
            self.running.store(underWay.count, ordering: .relaxed)
            completion(outcome)
        }
        while true {
            let work = self.mailbox.take(atMost: self.settings.atOnce - underWay.count)
            for submission in work.starts {
                guard
                    let transfer = Transfer(
                        id: submission.id, request: submission.request, addresses: self.settings.addresses, certificates: self.settings.certificates,
                        isGivenUp: { [mailbox] in mailbox.isGivenUp(submission.id) }),
                    self.multi.add(transfer)
                else {
                    submission.completion(.failure(TransferError(code: .failed, message: "the transfer cannot be set up")))
                    continue
                }
                underWay[submission.id] = (transfer, submission.completion)
            }
            self.running.store(underWay.count, ordering: .relaxed)
            for submission in work.dropped { submission.completion(Self.cancelled) }
            for id in work.cancels { end(id) { _ in Self.cancelled } }
            if work.isClosing {
                for id in Array(underWay.keys) { end(id) { _ in Self.cancelled } }
                self.mailbox.finish()
                return
            }
            self.multi.perform()
            let ended = self.multi.ended()
            for (id, code) in ended { end(id) { $0.result(code) } }
            // Room for those that wait: they begin before the next wait.
            if ended.isEmpty || !self.mailbox.hasWaiting { self.multi.wait(milliseconds: Self.pause) }
        }
    }

    private static let cancelled = Result<TransferAnswer, TransferError>.failure(TransferError(code: .cancelled, message: "cancelled"))
}
