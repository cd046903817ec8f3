/// A direct event as it is published, to a user's channel or to everybody's: its ready frame, and what an edge needs to filter it.
///
/// All integers are little-endian. Layout: tag (1), time of sending in µs (8), length of the customer (2, 0xFFFF: none), its bytes, the frame.
/// The tag is no version of ``Envelope``, which comes on the same channels.
public struct DirectEnvelope: Sendable, Equatable {
    public static let tag: UInt8 = 0x81

    public var sentAt: Timestamp
    public var customer: String?
    /// Offset of the frame in the message; it goes up to the end.
    public var frameOffset: Int

    public static func encode(frame: [UInt8], customer: CustomerID?, sentAt: Timestamp) -> [UInt8] {
        var bytes: [UInt8] = [Self.tag]
        bytes.reserveCapacity(16 + frame.count + (customer?.value.utf8.count ?? 0))
        withUnsafeBytes(of: sentAt.microseconds.littleEndian) { bytes.append(contentsOf: $0) }
        let length = customer.map { UInt16($0.value.utf8.count) } ?? UInt16.max
        withUnsafeBytes(of: length.littleEndian) { bytes.append(contentsOf: $0) }
        if let customer { bytes.append(contentsOf: customer.value.utf8) }
        bytes.append(contentsOf: frame)
        return bytes
    }

    /// Nil when it is no direct event, or cut off.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 11, bytes[0] == Self.tag else { return nil }
        self.sentAt = Timestamp(microseconds: Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: 1, as: Int64.self)))
        let length = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 9, as: UInt16.self))
        self.frameOffset = 11
        if length != UInt16.max {
            self.frameOffset += Int(length)
            guard bytes.count > self.frameOffset, let customer = String(validating: bytes[11..<self.frameOffset], as: UTF8.self) else { return nil }
            self.customer = customer
        }
        guard bytes.count > self.frameOffset else { return nil }
    }
}
