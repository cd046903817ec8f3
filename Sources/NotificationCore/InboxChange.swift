/// One numbered change of one user's inbox, as the change log has it.
public struct InboxChange: Sendable, Equatable {
    public enum Kind: Int16, Sendable, CaseIterable {
        case created = 1
        case updated = 2
        case deleted = 3
        case readAll = 4
        case seenAll = 5
        case expired = 6
        case replaced = 7
        /// Everything that was there, or a portion of it: the first number of an epoch of the user's own.
        case erased = 8
    }

    /// The flags of a notification after the change.
    public struct State: OptionSet, Sendable, Hashable {
        public let rawValue: Int16
        public init(rawValue: Int16) { self.rawValue = rawValue }
        public static let read = State(rawValue: 1)
        public static let seen = State(rawValue: 2)
        public static let archived = State(rawValue: 4)
    }

    public var seq: Int64
    public var kind: Kind
    public var notification: NotificationID?
    public var state: State
    public var readAt: Timestamp?
    /// Counts of the whole inbox after the change.
    public var unread: Int32
    public var unseen: Int32
    /// The customer of the notification, or the filter of "all read" ("" means: those without a customer).
    public var customer: String?
    /// Counts of that customer after the change.
    public var customerUnread: Int32
    public var customerUnseen: Int32
    /// JSON, customer to [unread, unseen]: after a change that touched several customers.
    public var customerCounts: String?
    /// The same before it; only the change log has it.
    public var customerCountsBefore: String?
    public var type: String?
    public var upToSeq: Int64?
    /// The notification's immutable members; nil when it is gone.
    public var body: [UInt8]?

    public init(
        seq: Int64, kind: Kind, notification: NotificationID? = nil, state: State = [], readAt: Timestamp? = nil, unread: Int32, unseen: Int32,
        customer: String? = nil, customerUnread: Int32 = 0, customerUnseen: Int32 = 0, customerCounts: String? = nil, type: String? = nil,
        upToSeq: Int64? = nil, customerCountsBefore: String? = nil, body: [UInt8]? = nil
    ) {
        self.seq = seq
        self.kind = kind
        self.notification = notification
        self.state = state
        self.readAt = readAt
        self.unread = unread
        self.unseen = unseen
        self.customer = customer
        self.customerUnread = customerUnread
        self.customerUnseen = customerUnseen
        self.customerCounts = customerCounts
        self.customerCountsBefore = customerCountsBefore
        self.type = type
        self.upToSeq = upToSeq
        self.body = body
    }
}

/// Encodes a notification's JSON from its immutable members and its state.
public enum NotificationJSON {
    /// Appends the object without its closing brace, so that `unread` can follow.
    public static func appendOpen(
        id: NotificationID, seq: Int64?, body: some Sequence<UInt8>, state: InboxChange.State, readAt: Timestamp?, to bytes: inout [UInt8]
    ) {
        bytes.append(ascii: "{\"id\":\"")
        id.append(to: &bytes)
        bytes.append(ascii: "\",\"seq\":")
        if let seq { bytes.append(decimal: seq) } else { bytes.append(ascii: "null") }
        bytes.append(UInt8(ascii: ","))
        bytes.append(contentsOf: body)
        state.contains(.read) ? bytes.append(ascii: ",\"read\":true,\"read_at\":") : bytes.append(ascii: ",\"read\":false,\"read_at\":")
        if let readAt {
            bytes.append(UInt8(ascii: "\""))
            readAt.append(to: &bytes)
            bytes.append(UInt8(ascii: "\""))
        } else {
            bytes.append(ascii: "null")
        }
        state.contains(.seen) ? bytes.append(ascii: ",\"seen\":true") : bytes.append(ascii: ",\"seen\":false")
        state.contains(.archived) ? bytes.append(ascii: ",\"archived\":true") : bytes.append(ascii: ",\"archived\":false")
    }

    public static func append(
        id: NotificationID, seq: Int64?, body: some Sequence<UInt8>, state: InboxChange.State, readAt: Timestamp?, to bytes: inout [UInt8]
    ) {
        self.appendOpen(id: id, seq: seq, body: body, state: state, readAt: readAt, to: &bytes)
        bytes.append(UInt8(ascii: "}"))
    }
}
