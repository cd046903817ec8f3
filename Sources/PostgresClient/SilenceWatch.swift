/// Notices a server that owes answers and says nothing. Time comes in from outside.
struct SilenceWatch {
    typealias Instant = ContinuousClock.Instant

    /// `nil` never ends.
    let timeout: Duration?
    private var since: Instant?

    init(timeout: Duration?) {
        self.timeout = timeout
    }

    /// Whether answers are owed now. The silence is counted from when the first of them became due.
    mutating func owed(_ isOwed: Bool, at now: Instant) {
        if !isOwed {
            since = nil
        } else if since == nil {
            since = now
        }
    }

    /// Something was read.
    mutating func heard(at now: Instant) {
        if since != nil { since = now }
    }

    /// When the silence has been too long.
    var deadline: Instant? {
        guard let since, let timeout else { return nil }
        return since + timeout
    }
}
