/// A direct event as it is published, to a user's channel or to everybody's: its ready frame, and what an edge needs to decide whom it is for.
///
/// All integers are little-endian. Layout: tag (1), 1 if nobody can turn it off (1), time of sending in µs (8), lengths of customer, type and event (2 each,
/// 0xFFFF: none), their bytes, the frame. The tag is no version of ``Envelope``, which comes on the same channels.
public struct DirectEnvelope: Sendable, Equatable {
    public static let tag: UInt8 = 0x82
    /// Comes alone, in place of an event: something is kept of the user now, so that from here on it must be asked what the user prefers.
    public static let known: [UInt8] = [0x83]

    /// What preferences are about.
    public struct Subject: Sendable, Equatable {
        public var type: String
        public var event: String?
        /// By the catalogue, whatever users prefer.
        public var isRequired: Bool

        public init(type: String, event: String?, isRequired: Bool) {
            self.type = type
            self.event = event
            self.isRequired = isRequired
        }
    }

    public var sentAt: Timestamp
    public var customer: String?
    /// Offset of the frame in the message; it goes up to the end.
    public var frameOffset: Int
    private var isRequired: Bool
    private var type: Range<Int>
    private var event: Range<Int>?

    private static let fixed = 16

    public static func encode(frame: some Collection<UInt8>, customer: CustomerID?, subject: Subject, sentAt: Timestamp) -> [UInt8] {
        self.encode(customer: customer, subject: subject, sentAt: sentAt, frameBytes: frame.count) { $0.append(contentsOf: frame) }
    }

    /// - Parameters:
    ///   - frameBytes: about how many there will be.
    ///   - appendFrame: appends the frame.
    public static func encode(
        customer: CustomerID?, subject: Subject, sentAt: Timestamp, frameBytes: Int, _ appendFrame: (inout [UInt8]) -> Void
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(
            Self.fixed + frameBytes + (customer?.value.utf8.count ?? 0) + subject.type.utf8.count + (subject.event?.utf8.count ?? 0))
        bytes.append(Self.tag)
        bytes.append(subject.isRequired ? 1 : 0)
        withUnsafeBytes(of: sentAt.microseconds.littleEndian) { bytes.append(contentsOf: $0) }
        func append(lengthOf text: String?) {
            withUnsafeBytes(of: (text.map { UInt16($0.utf8.count) } ?? UInt16.max).littleEndian) { bytes.append(contentsOf: $0) }
        }
        append(lengthOf: customer?.value)
        append(lengthOf: subject.type)
        append(lengthOf: subject.event)
        if let customer { bytes.append(contentsOf: customer.value.utf8) }
        bytes.append(contentsOf: subject.type.utf8)
        if let event = subject.event { bytes.append(contentsOf: event.utf8) }
        appendFrame(&bytes)
        return bytes
    }

    /// Nil when it is no direct event, or cut off.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > Self.fixed, bytes[0] == Self.tag, bytes[1] <= 1 else { return nil }
        self.isRequired = bytes[1] == 1
        self.sentAt = Timestamp(microseconds: Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: Int64.self)))
        var offset = Self.fixed
        func next(_ place: Int) -> Range<Int>? {
            let length = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt16.self))
            if length == UInt16.max { return nil }
            defer { offset += Int(length) }
            return offset..<offset + Int(length)
        }
        let customer = next(10)
        guard let type = next(12) else { return nil }
        self.type = type
        self.event = next(14)
        self.frameOffset = offset
        guard bytes.count > offset else { return nil }
        if let customer {
            guard let text = String(validating: bytes[customer], as: UTF8.self) else { return nil }
            self.customer = text
        }
    }

    /// - Parameter bytes: the message that this was read from.
    public func subject(in bytes: UnsafeRawBufferPointer) -> Subject {
        Subject(
            type: String(decoding: bytes[self.type], as: UTF8.self), event: self.event.map { String(decoding: bytes[$0], as: UTF8.self) },
            isRequired: self.isRequired)
    }

    public static func saysKnown(_ bytes: UnsafeRawBufferPointer) -> Bool { bytes.elementsEqual(Self.known) }
}
