internal import NIOCore

/// Asks for something fresh once at a time, and with a rest in between; what is wanted meanwhile is done after that, once. No I/O.
struct RefreshPace: Sendable {
    /// From an answer to the next question.
    static let rest: TimeAmount = .milliseconds(100)

    private enum State {
        case idle
        case asking(again: Bool)
        case resting(again: Bool)
    }

    private var state = State.idle

    /// Returns whether to ask now.
    mutating func wanted() -> Bool {
        switch state {
        case .idle:
            state = .asking(again: false)
            return true
        case .asking:
            // What is on its way may have been read before there was news.
            state = .asking(again: true)
            return false
        case .resting:
            state = .resting(again: true)
            return false
        }
    }

    /// The question was answered, or failed: the rest begins.
    mutating func answered() {
        guard case .asking(let again) = state else { preconditionFailure("an answer to nothing that was asked") }
        state = .resting(again: again)
    }

    /// Returns whether to ask now.
    mutating func rested() -> Bool {
        guard case .resting(let again) = state else { preconditionFailure("a rest that had not begun") }
        state = again ? .asking(again: false) : .idle
        return again
    }
}
