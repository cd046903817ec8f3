/// Everything that is checked about one stream, across its reconnects.
struct StreamChecker {
    enum Observation: Equatable {
        /// The first `ready`.
        case joined
        /// A `ready` after a reconnect.
        case resumed
        /// A creation that was not shown before.
        case created(NotificationID?, due: UInt64?, call: CallNumber?)
        case changed
        /// An event whose number was seen before.
        case repeated
        case resynced
        case closing(reason: String)
        /// Without a number: a direct event, `auth_expiring`, a lone `retry:`.
        case unnumbered
        /// A direct event.
        case direct(due: UInt64?, call: CallNumber?)
        case malformed
    }

    private(set) var sequence = SequenceChecker()
    private(set) var unread = UnreadModel()
    private(set) var unreadWrong: UInt64 = 0
    private(set) var unreadUnchecked: UInt64 = 0
    private(set) var resynced: UInt64 = 0
    private(set) var malformed: UInt64 = 0
    private var acknowledgements = AcknowledgementMatcher()
    private var resumes = 0

    mutating func receive(_ event: StreamEvent) -> Observation {
        switch event.name {
        case .ready:
            guard case .position(let position) = event.id else { return fault() }
            guard sequence.position == nil else {
                resumes += 1
                return .resumed
            }
            sequence.join(position)
            unread.join(unread: event.facts.unread)
            return .joined
        case .resync:
            guard case .position(let position) = event.id else { return fault() }
            resynced += 1
            sequence.resync(position)
            unread.restart(unread: event.facts.unread)
            return .resynced
        case .close:
            return .closing(reason: event.facts.reason ?? "none given")
        case .authExpiring:
            return .unnumbered
        case .message, .update, .delete, .readAll, .other:
            switch event.id {
            case .absent: return event.name == .message && event.facts.ephemeral ? .direct(due: event.facts.due, call: event.facts.call) : .unnumbered
            case .malformed: return fault()
            case .position(let position): return number(position, event)
            }
        }
    }

    /// The API acknowledged a notification for this stream's user.
    mutating func acknowledge(_ id: NotificationID, seq: UInt64) {
        // What was there when the stream joined is not for it to show.
        guard sequence.position == nil || seq > sequence.floor else { return }
        acknowledgements.acknowledge(id, seq: seq)
    }

    /// Bytes that are no event.
    mutating func receiveMalformed() { malformed += 1 }

    /// Numbers and acknowledged notifications that never came, the sequence being known to reach `head`.
    func lost(head: UInt64) -> UInt64 { sequence.lost(upTo: head) + acknowledgements.lost(sequence) }

    /// Whether the API's count agrees, if it speaks of the position that the stream stands at.
    func agrees(unread count: Int64, at position: StreamPosition) -> Bool {
        guard sequence.position == position, let expected = unread.unread else { return true }
        return expected == count
    }

    private mutating func fault() -> Observation {
        malformed += 1
        return .malformed
    }

    private mutating func number(_ position: StreamPosition, _ event: StreamEvent) -> Observation {
        let outcome = sequence.observe(position)
        let creation = event.name == .message && event.hasData
        switch outcome {
        case .duplicate:
            return .repeated
        case .late:
            // Its count belongs to the past, and what the model knows of the notification is newer.
            break
        case .gap, .wrongEpoch, .beforeReady:
            // The model cannot know what the missing changes did: it goes on from here.
            if event.hasData { unread.restart(unread: event.facts.unread) }
        case .next:
            if event.hasData {
                switch unread.apply(change(event), seq: position.seq, shown: event.facts.unread) {
                case .right: break
                case .wrong: unreadWrong += 1
                case .unchecked: unreadUnchecked += 1
                }
            } else {
                unread.restart(unread: nil)
            }
        }
        if let id = event.facts.notification, creation || (event.name == .delete && resumes > 0) {
            // A replay shows a creation whose notification is gone as a `delete` under the creation's number.
            acknowledgements.show(id, seq: position.seq)
        }
        return creation ? .created(event.facts.notification, due: event.facts.due, call: event.facts.call) : .changed
    }

    private func change(_ event: StreamEvent) -> UnreadModel.Change {
        switch event.name {
        case .message: .created(event.facts.notification, read: event.facts.read ?? false)
        case .update: event.facts.all && event.facts.notification == nil ? .allSeen : .updated(event.facts.notification, read: event.facts.read)
        case .delete: .deleted(event.facts.notification)
        case .readAll: event.facts.filtered ? .unknown : .allRead
        case .ready, .resync, .authExpiring, .close, .other: .unknown
        }
    }
}
