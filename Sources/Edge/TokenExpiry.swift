/// When a stream's token ends, and when that is said. Seconds since 1970.
struct TokenExpiry {
    private(set) var at: Int64
    /// Nil once it was said.
    private var warning: Int64?
    /// It is never said.
    var isSilent = false

    /// - Parameter lead: how long before its end it is said; of a token that ends sooner, at once.
    init(at end: Int64, lead: Int64) {
        self.at = end
        self.warning = end - lead
    }

    /// A token of the same user and the same rights. One that ends within the lead, as one does that its application keeps until it has ended, is said to end after
    /// half of the time that it has left: not at once, upon which it would be sent again, and so on every second.
    mutating func renew(until end: Int64, now: Int64, lead: Int64) {
        self.at = max(self.at, end)
        let rest = max(0, self.at - now)
        self.warning = max(self.at - lead, now + max(1, (rest + 1) / 2))
    }

    /// Whether it is to be said now, once.
    mutating func takeWarning(now: Int64) -> Bool {
        guard let warning, now >= warning, !self.isSilent else { return false }
        self.warning = nil
        return true
    }

    /// The next moment that matters.
    ///
    /// - Parameter isWarned: nothing can be said now.
    func next(isWarned: Bool) -> Int64 {
        if let warning, !isWarned, !self.isSilent { return min(warning, self.at) }
        return self.at
    }
}
