/// Where a thing is in its wheel.
struct TimerPlace {
    fileprivate var slot: Int32
    fileprivate var index: Int32
}

/// What can wait in a wheel, once at a time.
protocol Timed: AnyObject {
    /// The wheel's own note.
    var wheelPlace: TimerPlace? { get set }
}

/// Timers of many things on one clock of whole seconds: one slot a second, so that a thing costs one array element and no timer of its own.
struct TimerWheel<Element: Timed> {
    private var slots: [[Element]]
    private var last: Int64?

    init(slots: Int) {
        self.slots = Array(repeating: [], count: slots)
    }

    /// What lies further ahead than the wheel is long comes up early: it looks at the clock and is scheduled again. What is scheduled already is moved.
    mutating func schedule(_ element: Element, at moment: Int64, now: Int64) {
        self.remove(element)
        // Before the first advance, too: what is scheduled then has its place from here on.
        let last = self.last ?? now
        self.last = last
        let moment = min(max(moment, last + 1), last + Int64(self.slots.count) - 1)
        let slot = Int(moment % Int64(self.slots.count))
        element.wheelPlace = TimerPlace(slot: Int32(slot), index: Int32(self.slots[slot].count))
        self.slots[slot].append(element)
    }

    /// It is held no longer. Nothing, when it does not wait.
    mutating func remove(_ element: Element) {
        guard let place = element.wheelPlace else { return }
        element.wheelPlace = nil
        let end = self.slots[Int(place.slot)].removeLast()
        if end === element { return }
        end.wheelPlace = place
        self.slots[Int(place.slot)][Int(place.index)] = end
    }

    /// All whose moment has come since the last call, also when several seconds passed or the clock jumped.
    mutating func advance(to now: Int64) -> [Element] {
        let from = self.last ?? now - 1
        self.last = now
        if now == from { return [] }
        var due: [Element] = []
        if now < from || now - from >= Int64(self.slots.count) {
            // The clock went back, or far ahead: everything looks again.
            for slot in self.slots.indices { self.take(slot, &due) }
        } else {
            for second in (from + 1)...now { self.take(Int(second % Int64(self.slots.count)), &due) }
        }
        return due
    }

    private mutating func take(_ slot: Int, _ due: inout [Element]) {
        for element in self.slots[slot] { element.wheelPlace = nil }
        if due.isEmpty { swap(&due, &self.slots[slot]) } else { due += self.slots[slot] }
        self.slots[slot] = []
    }
}
