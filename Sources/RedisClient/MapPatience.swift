internal import NIOCore

/// When to ask another node for the map of slots: the one that is asked may itself be cut off from the cluster, or be the last to hear. No I/O.
struct MapPatience: Sendable {
    /// How long its maps may leave a part of the cluster unserved, in time and not in answers: those come as fast as they are asked for. A
    /// CLUSTERDOWN counts for as long.
    static let limit: TimeAmount = .seconds(3)

    private var unhelpfulSince: NIODeadline?
    private var lastDown: NIODeadline?

    /// Some node said CLUSTERDOWN, though by the map all be well.
    mutating func heardDown(now: NIODeadline) {
        lastDown = now
    }

    /// - Parameter isServed: every slot has a master, and each of these is connected.
    /// - Returns: whether another node is to be asked from now on.
    mutating func answered(isServed: Bool, now: NIODeadline) -> Bool {
        if let last = lastDown, now - last >= Self.limit { lastDown = nil }
        guard !isServed || lastDown != nil else {
            unhelpfulSince = nil
            return false
        }
        let since = unhelpfulSince ?? now
        guard now - since >= Self.limit else {
            unhelpfulSince = since
            return false
        }
        unhelpfulSince = nil
        lastDown = nil
        return true
    }
}
