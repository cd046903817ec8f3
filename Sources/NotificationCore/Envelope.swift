/// A message as it is published to a user's channel: all changes that one batch made to that user, as ready frames, with what an edge
/// needs to place and filter them without parsing JSON.
///
/// All integers are little-endian. Layout: version (1), epoch (8), first seq (8), commit time in µs (8), timeline (4) and
/// place in the log (8) of the commit, zero when not known, count (2); per change: kind (1),
/// frame length (4), offset of the unread count in the frame (4), customer's unread (4) and unseen (4), unread (4), unseen (4), length of the
/// customer (2, 0xFFFF: none), length of the customers' counts (4, 0xFFFFFFFF: none), their bytes; then the frames, one after the other.
public struct Envelope: Sendable {
    public static let version: UInt8 = 2

    public struct Change: Sendable, Equatable {
        public var kind: InboxChange.Kind
        /// Offsets into the message.
        public var frame: Range<Int>
        /// From the frame's start.
        public var unreadOffset: Int
        public var customer: String?
        public var customerUnread: Int32
        public var customerUnseen: Int32
        public var unread: Int32
        public var unseen: Int32
        public var customerCounts: String?
    }

    public var epoch: Int64
    /// The first change's number; the others follow without a hole.
    public var first: Int64
    public var committedAt: Timestamp
    /// As far as the log was when this was committed. Who has seen it knows a server that has lost it.
    public var place: LogPosition?
    public var changes: [Change]
    public var last: Int64 { self.first + Int64(self.changes.count) - 1 }

    /// Encodes the changes of one user. They must be consecutive.
    public static func encode(_ changes: [InboxChange], epoch: Int64, committedAt: Timestamp, place: LogPosition?) -> [UInt8] {
        var frames: [UInt8] = []
        frames.reserveCapacity(changes.count * 640)
        var bytes: [UInt8] = []
        bytes.append(Self.version)
        bytes.append(little: UInt64(bitPattern: epoch))
        bytes.append(little: UInt64(bitPattern: changes.first?.seq ?? 0))
        bytes.append(little: UInt64(bitPattern: committedAt.microseconds))
        bytes.append(little: UInt32(bitPattern: place?.timeline ?? 0))
        bytes.append(little: place?.lsn ?? 0)
        bytes.append(little: UInt16(changes.count))
        for change in changes {
            let start = frames.count
            let unread = StreamFrame.append(change, epoch: epoch, to: &frames)
            bytes.append(UInt8(change.kind.rawValue))
            bytes.append(little: UInt32(frames.count - start))
            bytes.append(little: UInt32(unread))
            bytes.append(little: UInt32(bitPattern: change.customerUnread))
            bytes.append(little: UInt32(bitPattern: change.customerUnseen))
            bytes.append(little: UInt32(bitPattern: change.unread))
            bytes.append(little: UInt32(bitPattern: change.unseen))
            bytes.append(little: change.customer.map { UInt16($0.utf8.count) } ?? UInt16.max)
            bytes.append(little: change.customerCounts.map { UInt32($0.utf8.count) } ?? UInt32.max)
            if let customer = change.customer { bytes.append(contentsOf: customer.utf8) }
            if let counts = change.customerCounts { bytes.append(contentsOf: counts.utf8) }
        }
        bytes.append(contentsOf: frames)
        return bytes
    }

    /// Nil when it is of another version, or cut off, or anything else that this program did not write.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        var at = 0
        func little<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
            let size = MemoryLayout<Value>.size
            guard at + size <= bytes.count else { return nil }
            defer { at += size }
            return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: Value.self))
        }
        func text(_ count: Int) -> String? {
            guard at + count <= bytes.count else { return nil }
            defer { at += count }
            return String(validating: UnsafeRawBufferPointer(rebasing: bytes[at..<(at + count)]), as: UTF8.self)
        }
        guard little(UInt8.self) == Self.version, let epoch = little(Int64.self), let first = little(Int64.self), let time = little(Int64.self),
            let timeline = little(Int32.self), let lsn = little(UInt64.self), let count = little(UInt16.self), count > 0, first > 0, first < Int64.max - Int64(count)
        else { return nil }
        self.epoch = epoch
        self.first = first
        self.committedAt = Timestamp(microseconds: time)
        self.place = lsn == 0 ? nil : LogPosition(timeline: timeline, lsn: lsn)
        self.changes = []
        // What is claimed may be more than what is there.
        self.changes.reserveCapacity(min(Int(count), bytes.count / 31))
        var lengths = 0
        for _ in 0..<count {
            guard let rawKind = little(UInt8.self), let kind = InboxChange.Kind(rawValue: Int16(rawKind)), let length = little(UInt32.self),
                let unreadOffset = little(UInt32.self), let customerUnread = little(Int32.self), let customerUnseen = little(Int32.self),
                let unread = little(Int32.self), let unseen = little(Int32.self), let customerLength = little(UInt16.self),
                let countsLength = little(UInt32.self), unreadOffset <= length
            else { return nil }
            var customer: String?
            if customerLength != UInt16.max {
                guard let value = text(Int(customerLength)) else { return nil }
                customer = value
            }
            var counts: String?
            if countsLength != UInt32.max {
                guard let value = text(Int(countsLength)) else { return nil }
                counts = value
            }
            self.changes.append(
                Change(
                    kind: kind, frame: lengths..<(lengths + Int(length)), unreadOffset: Int(unreadOffset), customer: customer,
                    customerUnread: customerUnread, customerUnseen: customerUnseen, unread: unread, unseen: unseen, customerCounts: counts))
            lengths += Int(length)
        }
        guard at + lengths == bytes.count else { return nil }
        for index in self.changes.indices {
            let frame = self.changes[index].frame
            self.changes[index].frame = (frame.lowerBound + at)..<(frame.upperBound + at)
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append<Value: FixedWidthInteger>(little value: Value) {
        Swift.withUnsafeBytes(of: value.littleEndian) { self.append(contentsOf: $0) }
    }
}
