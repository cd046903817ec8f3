/// Timers of many things on one clock of whole seconds: one slot a second, so that a thing costs one array element and no timer of its own.
struct TimerWheel<Element> {
    private var slots: [[Element]]
    private var last: Int64?

    init(slots: Int) {
        self.slots = Array(repeating: [], count: slots)
    }

    /// What lies further ahead than the wheel is long comes up early: it looks at the clock and is scheduled again.
    mutating func schedule(_ element: Element, at moment: Int64, now: Int64) {
        let last = self.last ?? now
        let moment = min(max(moment, last + 1), last + Int64(self.slots.count) - 1)
        self.slots[Int(moment % Int64(self.slots.count))].append(element)
    }

    /// All whose moment has come since the last call, also when several seconds passed or the clock jumped.
    mutating func advance(to now: Int64) -> [Element] {
        let from = self.last ?? now - 1
        self.last = now
        if now <= from {
            // The clock went back: everything looks again.
            if now == from { return [] }
            return self.takeAll()
        }
        if now - from >= Int64(self.slots.count) { return self.takeAll() }
        var due: [Element] = []
        for second in (from + 1)...now {
            let slot = Int(second % Int64(self.slots.count))
            if due.isEmpty { swap(&due, &self.slots[slot]) } else { due += self.slots[slot] }
            self.slots[slot] = []
        }
        return due
    }

    private mutating func takeAll() -> [Element] {
        let all = self.slots.flatMap { $0 }
        self.slots = Array(repeating: [], count: self.slots.count)
        return all
    }
}
