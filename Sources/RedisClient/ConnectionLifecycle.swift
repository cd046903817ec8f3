internal import NIOCore

/// The life of something that always wants one connection: connect, use, lose, wait, connect again, until it is told to stop. No I/O.
///
/// The backoff starts over only once a connection has lasted longer than the longest wait: a server that greets and then hangs up is not
/// called twenty times a second.
struct ConnectionLifecycle: Sendable {
    enum State: Sendable, Equatable {
        case idle
        /// Up to the end of the greeting.
        case connecting
        case open(since: NIODeadline)
        case waiting
        case stopping(Stopping)
        case stopped
    }

    enum Stopping: Sendable, Equatable {
        case connecting
        case open
    }

    enum Action: Sendable, Equatable {
        case none
        case connect
        case announceOpen
        /// Close what has just been opened or greets, if there is anything yet: nobody wants it any more.
        case discard
        case retry(after: TimeAmount)
        case announceLostAndRetry(after: TimeAmount)
        /// Let the open connection finish and close.
        case close
        case cancelRetryAndFinish
        case announceLostAndFinish
        case finish
    }

    private(set) var state = State.idle
    private var backoff: Backoff

    init(backoff: Backoff) {
        self.backoff = backoff
    }

    mutating func start() -> Action {
        switch state {
        case .idle:
            state = .connecting
            return .connect
        case .connecting, .open, .waiting, .stopping, .stopped:
            return .none
        }
    }

    /// The greeting was answered.
    mutating func opened(now: NIODeadline) -> Action {
        switch state {
        case .connecting:
            state = .open(since: now)
            return .announceOpen
        case .stopping(.connecting):
            return .discard
        case .idle, .open, .waiting, .stopping(.open), .stopped:
            preconditionFailure("a connection opened in the state \(state), in which none is being made")
        }
    }

    /// The attempt to connect failed, or the connection ended.
    mutating func ended(now: NIODeadline, slowly: Bool, using generator: inout some RandomNumberGenerator) -> Action {
        switch state {
        case .connecting:
            state = .waiting
            return .retry(after: backoff.next(slowly: slowly, using: &generator))
        case .open(let since):
            if now - since > backoff.maximum { backoff.reset() }
            state = .waiting
            return .announceLostAndRetry(after: backoff.next(slowly: slowly, using: &generator))
        case .stopping(.connecting):
            state = .stopped
            return .finish
        case .stopping(.open):
            state = .stopped
            return .announceLostAndFinish
        case .idle, .waiting, .stopped:
            preconditionFailure("a connection ended in the state \(state), in which there is none")
        }
    }

    mutating func retryDue() -> Action {
        switch state {
        case .waiting:
            state = .connecting
            return .connect
        case .idle, .connecting, .open, .stopping, .stopped:
            return .none
        }
    }

    mutating func shutdown() -> Action {
        switch state {
        case .idle:
            state = .stopped
            return .finish
        case .connecting:
            state = .stopping(.connecting)
            return .discard
        case .open:
            state = .stopping(.open)
            return .close
        case .waiting:
            state = .stopped
            return .cancelRetryAndFinish
        case .stopping:
            return .none
        case .stopped:
            return .finish
        }
    }
}
