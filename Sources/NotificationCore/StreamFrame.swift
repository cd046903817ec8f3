/// Encodes what stands on an event stream (WHATWG HTML, 9.2 Server-sent events). No field ever holds CR, LF or NUL: all text is JSON.
public enum StreamFrame {
    /// Appends the frame of one change, exactly as it goes on the socket.
    ///
    /// The data's last member is `unread`, so that a stream that sees another count (a token limited to some customers) can have it
    /// replaced: what follows the returned offset is the number, `}` and two line feeds. Before it stands, of "all seen", ``unseenMember(_:)``.
    /// - Returns: Offset of `unread`'s digits from the start of this frame.
    @discardableResult
    public static func append(_ change: InboxChange, epoch: Int64, to bytes: inout [UInt8]) -> Int {
        let start = bytes.count
        let kind = self.shown(change)
        switch kind {
        case .created: break
        case .updated, .seenAll: bytes.append(ascii: "event: update\n")
        case .deleted, .expired, .replaced: bytes.append(ascii: "event: delete\n")
        case .readAll: bytes.append(ascii: "event: read_all\n")
        case .erased: bytes.append(ascii: "event: resync\n")
        }
        bytes.append(ascii: "id: ")
        StreamPosition(epoch: epoch, seq: change.seq).append(to: &bytes)
        bytes.append(ascii: "\ndata: ")
        switch kind {
        case .created, .updated:
            NotificationJSON.appendOpen(
                id: change.notification!, seq: change.seq, body: change.body!, state: change.state, readAt: change.readAt, to: &bytes)
        case .deleted, .expired, .replaced:
            bytes.append(ascii: "{\"id\":\"")
            (change.notification ?? NotificationID(high: 0, low: 0)).append(to: &bytes)
            bytes.append(ascii: "\",\"seq\":")
            bytes.append(decimal: change.seq)
        case .readAll, .seenAll:
            bytes.append(ascii: "{\"seq\":")
            bytes.append(decimal: change.seq)
            if kind == .seenAll { bytes.append(ascii: ",\"all\":true,\"seen\":true") }
            if let customer = change.customer {
                bytes.append(ascii: ",\"customer_id\":")
                bytes.append(json: customer.isEmpty ? nil : customer)
            }
            if let type = change.type {
                bytes.append(ascii: ",\"type\":")
                bytes.append(json: type)
            }
            if let upTo = change.upToSeq {
                bytes.append(ascii: ",\"up_to_seq\":")
                bytes.append(decimal: upTo)
            }
            if kind == .seenAll { bytes.append(contentsOf: self.unseenMember(change.unseen).utf8) }
        case .erased:
            bytes.append(ascii: "{\"last_event_id\":\"")
            StreamPosition(epoch: epoch, seq: change.seq).append(to: &bytes)
            bytes.append(UInt8(ascii: "\""))
        }
        bytes.append(contentsOf: self.unreadName.utf8)
        let offset = bytes.count - start
        bytes.append(decimal: Int64(change.unread))
        bytes.append(ascii: "}\n\n")
        return offset
    }

    public static let unreadName = ",\"unread\":"

    public static func unseenMember(_ unseen: Int32) -> String { ",\"unseen\":\(unseen)" }

    /// A creation or update of a notification that is gone since is shown as its deletion, under its own number.
    private static func shown(_ change: InboxChange) -> InboxChange.Kind {
        switch change.kind {
        case .created, .updated: change.body == nil || change.notification == nil ? .deleted : change.kind
        case .deleted, .expired, .replaced, .readAll, .seenAll, .erased: change.kind
        }
    }

    /// An event that was never stored: without `id:`, number and count, so that a client's position stays where it is.
    ///
    /// - Parameter event: as it was asked for.
    public static func appendDirect(id: NotificationID, _ event: NotifyRequest, createdAt: Timestamp, to bytes: inout [UInt8]) {
        bytes.append(ascii: "data: {\"id\":\"")
        id.append(to: &bytes)
        bytes.append(ascii: "\",")
        event.appendBody(createdAt: createdAt, to: &bytes)
        bytes.append(ascii: ",\"read\":false,\"ephemeral\":true}\n\n")
    }

    /// An `id:` alone moves the client's position along past a change that it must not see.
    public static func appendPosition(_ position: StreamPosition, to bytes: inout [UInt8]) {
        bytes.append(ascii: "id: ")
        position.append(to: &bytes)
        bytes.append(ascii: "\n\n")
    }

    public static func appendReady(
        retryMilliseconds: Int, position: StreamPosition, connection: String, unread: Int32, unseen: Int32, node: String, to bytes: inout [UInt8]
    ) {
        bytes.append(ascii: "retry: ")
        bytes.append(decimal: Int64(retryMilliseconds))
        bytes.append(ascii: "\nevent: ready\nid: ")
        position.append(to: &bytes)
        bytes.append(ascii: "\ndata: {\"connection_id\":")
        bytes.append(json: connection)
        bytes.append(ascii: ",\"unread\":")
        bytes.append(decimal: Int64(unread))
        bytes.append(ascii: ",\"unseen\":")
        bytes.append(decimal: Int64(unseen))
        bytes.append(ascii: ",\"last_event_id\":\"")
        position.append(to: &bytes)
        bytes.append(ascii: "\",\"node\":")
        bytes.append(json: node)
        bytes.append(ascii: "}\n\n")
    }

    public static func appendResync(position: StreamPosition, unread: Int32, to bytes: inout [UInt8]) {
        bytes.append(ascii: "event: resync\nid: ")
        position.append(to: &bytes)
        bytes.append(ascii: "\ndata: {\"last_event_id\":\"")
        position.append(to: &bytes)
        bytes.append(ascii: "\",\"unread\":")
        bytes.append(decimal: Int64(unread))
        bytes.append(ascii: "}\n\n")
    }

    public static func appendAuthExpiring(expiresAt: Timestamp, connection: String, to bytes: inout [UInt8]) {
        bytes.append(ascii: "event: auth_expiring\ndata: {\"expires_at\":\"")
        expiresAt.append(to: &bytes)
        bytes.append(ascii: "\",\"connection_id\":")
        bytes.append(json: connection)
        bytes.append(ascii: "}\n\n")
    }

    public enum CloseReason: String, Sendable, CaseIterable {
        case evicted
        case tokenExpired = "token_expired"
        case draining
        case stalled
        /// By an administrator, or because something that this node needs is out of reach.
        case disconnected
    }

    public static func appendClose(_ reason: CloseReason, retryMilliseconds: Int, to bytes: inout [UInt8]) {
        bytes.append(ascii: "retry: ")
        bytes.append(decimal: Int64(retryMilliseconds))
        bytes.append(ascii: "\nevent: close\ndata: {\"reason\":\"")
        bytes.append(contentsOf: reason.rawValue.utf8)
        bytes.append(ascii: "\"}\n\n")
    }

    /// A comment, which clients skip.
    public static let ping: [UInt8] = Array(": ping\n\n".utf8)
}
