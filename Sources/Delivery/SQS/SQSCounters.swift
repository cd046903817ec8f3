/// What a node has done of one queue of SQS since its start, in messages, and what the service says of it.
public struct SQSCounters: Sendable, Equatable {
    public var sent = 0
    /// Refused, or the call failed: their tasks are handed over again.
    public var notSent = 0
    public var received = 0
    /// Of tasks that were done, or are not to be done now: duplicates.
    public var stale = 0
    /// Of tasks that others have, or of keys of which enough is under way: hidden for a while.
    public var postponed = 0
    public var deleted = 0
    /// That nobody here has written: they are left alone.
    public var foreign = 0
    /// Calls that came to nothing.
    public var errors = 0
    /// Messages that wait, about; nil: not known.
    public var waiting: Int?
    /// Messages that somebody has, about.
    public var taken: Int?
}
