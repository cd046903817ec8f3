import NIOCore
import NotificationCore
import NotificationStore

/// One change on its way to streams: its frame, and what a filter needs to know.
struct StreamItem: Sendable {
    var frame: ByteBuffer
    /// From the frame's start: the digits of `unread`.
    var unreadOffset: Int
    var kind: InboxChange.Kind
    var customer: String?
    var customerUnread: Int32
    var customerUnseen: Int32
    var customerCounts: String?
    var unread: Int32
    var unseen: Int32

    init(_ change: Envelope.Change, message: ByteBuffer) {
        self.frame = message.getSlice(at: message.readerIndex + change.frame.lowerBound, length: change.frame.count) ?? ByteBuffer()
        self.unreadOffset = change.unreadOffset
        self.kind = change.kind
        self.customer = change.customer
        self.customerUnread = change.customerUnread
        self.customerUnseen = change.customerUnseen
        self.customerCounts = change.customerCounts
        self.unread = change.unread
        self.unseen = change.unseen
    }

    init(_ change: InboxChange, epoch: Int64) {
        var bytes: [UInt8] = []
        self.unreadOffset = StreamFrame.append(change, epoch: epoch, to: &bytes)
        self.frame = ByteBuffer(bytes: bytes)
        self.kind = change.kind
        self.customer = change.customer
        self.customerUnread = change.customerUnread
        self.customerUnseen = change.customerUnseen
        self.customerCounts = change.customerCounts
        self.unread = change.unread
        self.unseen = change.unseen
    }
}

typealias UserFeed = Feed<StreamItem, NotificationID>
