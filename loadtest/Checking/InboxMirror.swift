/// A user's inbox as one stream's events make it, to be compared with the one that the API lists.
///
/// Bounded: with more entries, and after anything that the stream did not show in full, it makes no claim; what was missing is counted by the
/// sequence.
struct InboxMirror {
    struct Entry: Equatable {
        /// Of the last change that named it.
        var seq: UInt64
        var read: Bool
    }

    /// Notifications of one inbox.
    private static let limit = 2_000

    private(set) var entries: [NotificationID: Entry] = [:]
    private var position: StreamPosition?
    /// What is listed under a lower number and was never shown is from before the stream joined.
    private var floor: UInt64 = 0
    private(set) var isCertain = true

    /// Takes an event in the order of the stream.
    mutating func apply(_ event: StreamEvent) {
        guard isCertain, case .position(let id) = event.id else { return }
        if event.name == .ready {
            // Only the first one: a resume goes on from where the stream stopped.
            if position == nil { (position, floor) = (id, id.seq) }
            return
        }
        guard let last = position, id.epoch == last.epoch, event.name != .resync, id.seq <= last.seq + 1 else { return giveUp() }
        // Shown twice: the other checks count that.
        guard id.seq == last.seq + 1 else { return }
        position = id
        let facts = event.facts
        switch event.name {
        case .message where event.hasData:
            // What is of another run has no due time, and is not compared.
            guard facts.due != nil else { return }
            guard let notification = facts.notification, entries.count < Self.limit else { return giveUp() }
            entries[notification] = Entry(seq: id.seq, read: facts.read ?? false)
        case .update:
            // One from before the stream joined shows itself whole.
            guard let notification = facts.notification, entries[notification] != nil || facts.due != nil else { return }
            guard entries.count < Self.limit else { return giveUp() }
            entries[notification] = Entry(seq: id.seq, read: facts.read ?? false)
        case .delete:
            if let notification = facts.notification { entries[notification] = nil }
        case .readAll:
            guard !facts.filtered else { return giveUp() }
            for key in entries.keys { entries[key]?.read = true }
        case .message, .ready, .resync, .authExpiring, .close, .other:
            break
        }
    }

    /// How many notifications differ from those listed at that position: missing on either side, under another number, or in another state.
    /// Nil when the two do not speak of the same moment.
    func differences(from listed: [NotificationID: Entry], at head: StreamPosition) -> UInt64? {
        guard isCertain, position == head else { return nil }
        let wrong = entries.count { listed[$0.key] != $0.value } + listed.count { entries[$0.key] == nil && $0.value.seq > floor }
        return UInt64(wrong)
    }

    private mutating func giveUp() {
        isCertain = false
        entries = [:]
    }
}

/// One page of `GET /v1/notifications`.
struct InboxPage {
    /// Those of this run.
    var entries: [NotificationID: InboxMirror.Entry] = [:]
    var next: String?
    var head: StreamPosition?

    init(_ body: UnsafeRawBufferPointer, run: [UInt8]) throws(LoadtestError) {
        var reader = JSONReader(body)
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("data") {
                try reader.array { (reader) throws(LoadtestError) in try item(&reader, run) }
            } else if key.matches("page") {
                try reader.object { (key, reader) throws(LoadtestError) in
                    if key.matches("next") { next = try reader.stringIfAny()?.string } else { try reader.skip() }
                }
            } else if key.matches("last_event_id") {
                head = try reader.stringIfAny().flatMap { StreamPosition($0.bytes) }
            } else {
                try reader.skip()
            }
        }
    }

    private mutating func item(_ reader: inout JSONReader, _ run: [UInt8]) throws(LoadtestError) {
        var (id, seq, read, ours): (NotificationID?, UInt64?, Bool?, Bool) = (nil, nil, nil, false)
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("id") {
                id = try reader.stringIfAny().flatMap { NotificationID($0.bytes) }
            } else if key.matches("seq") {
                seq = try reader.integerIfAny().flatMap { UInt64(exactly: $0) }
            } else if key.matches("read") {
                read = try reader.boolIfAny()
            } else if key.matches("data"), reader.standsAtObject {
                try reader.object { (key, reader) throws(LoadtestError) in
                    if key.matches("run") { ours = try reader.stringIfAny().map { $0.bytes.elementsEqual(run) } ?? false } else { try reader.skip() }
                }
            } else {
                try reader.skip()
            }
        }
        guard ours else { return }
        guard let id, let seq, let read else { throw .malformed("A listed notification without id, seq or read") }
        entries[id] = InboxMirror.Entry(seq: seq, read: read)
    }
}
