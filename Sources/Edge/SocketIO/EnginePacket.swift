import NIOCore

/// A packet of Engine.IO 4 (protocol revision 4), in text: its type's digit, then its data. Binary packets do not occur here.
enum EnginePacket: Equatable {
    case open
    case close
    case ping(ByteBuffer)
    case pong
    case message(ByteBuffer)
    case upgrade
    case noop

    /// Between the packets of a poll's payload: U+001E, which JSON never holds unescaped.
    static let separator: UInt8 = 0x1E

    /// Nil for what is no packet, or a binary one.
    init?(_ text: ByteBuffer) {
        var text = text
        switch text.readInteger(as: UInt8.self) {
        case UInt8(ascii: "0"): self = .open
        case UInt8(ascii: "1"): self = .close
        case UInt8(ascii: "2"): self = .ping(text)
        case UInt8(ascii: "3"): self = .pong
        case UInt8(ascii: "4"): self = .message(text)
        case UInt8(ascii: "5"): self = .upgrade
        case UInt8(ascii: "6"): self = .noop
        default: return nil
        }
    }

    /// The packets of a payload, one at least; nil when one of them is none.
    static func payload(_ bytes: ByteBuffer) -> [EnginePacket]? {
        var packets: [EnginePacket] = []
        for text in Self.split(bytes) {
            guard let packet = EnginePacket(text) else { return nil }
            packets.append(packet)
        }
        return packets
    }

    static func split(_ payload: ByteBuffer) -> [ByteBuffer] {
        var payload = payload
        var texts: [ByteBuffer] = []
        while true {
            let length = payload.readableBytesView.firstIndex(of: Self.separator).map { $0 - payload.readerIndex } ?? payload.readableBytes
            texts.append(payload.readSlice(length: length) ?? ByteBuffer())
            if payload.readableBytes == 0 { return texts }
            payload.moveReaderIndex(forwardBy: 1)
        }
    }
}
