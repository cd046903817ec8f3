import NIOCore
import NotificationCore

/// Frames as a server writes them (RFC 6455, 5.2): whole messages, not masked.
enum WebSocketFrame {
    enum Opcode: UInt8 {
        case text = 0x1
        case close = 0x8
        case ping = 0x9
        case pong = 0xA
    }

    static func write(_ opcode: Opcode, _ payload: some Collection<UInt8>, to buffer: inout ByteBuffer) {
        buffer.writeInteger(0x80 | opcode.rawValue)
        switch payload.count {
        case ...125: buffer.writeInteger(UInt8(payload.count))
        case ...0xFFFF:
            buffer.writeInteger(UInt8(126))
            buffer.writeInteger(UInt16(payload.count))
        default:
            buffer.writeInteger(UInt8(127))
            buffer.writeInteger(UInt64(payload.count))
        }
        buffer.writeBytes(payload)
    }

    static func make(_ opcode: Opcode, _ payload: some Collection<UInt8> = EmptyCollection<UInt8>()) -> ByteBuffer {
        var buffer = ByteBuffer()
        Self.write(opcode, payload, to: &buffer)
        return buffer
    }

    /// - Parameter reason: at most 123 bytes of UTF-8.
    static func close(_ code: WebSocketCode, _ reason: String) -> ByteBuffer {
        precondition(reason.utf8.count <= 123, "the reason of a close frame has 123 bytes at most")
        return Self.make(.close, [UInt8(truncatingIfNeeded: code.rawValue >> 8), UInt8(truncatingIfNeeded: code.rawValue)] + Array(reason.utf8))
    }
}

/// Why a WebSocket is closed (RFC 6455, 7.4; from 4000 on our own).
struct WebSocketCode: Equatable, Sendable {
    var rawValue: UInt16

    static let normal = WebSocketCode(rawValue: 1000)
    static let protocolError = WebSocketCode(rawValue: 1002)
    static let unsupported = WebSocketCode(rawValue: 1003)
    static let notText = WebSocketCode(rawValue: 1007)
    static let tooLarge = WebSocketCode(rawValue: 1009)
    static let restart = WebSocketCode(rawValue: 1012)
    static let tryAgainLater = WebSocketCode(rawValue: 1013)
    static let evicted = WebSocketCode(rawValue: 4001)
    static let tokenExpired = WebSocketCode(rawValue: 4002)
    static let stalled = WebSocketCode(rawValue: 4003)
}

extension WebSocketCode {
    init(_ reason: StreamFrame.CloseReason) {
        switch reason {
        case .draining: self = .restart
        case .disconnected: self = .tryAgainLater
        case .evicted: self = .evicted
        case .tokenExpired: self = .tokenExpired
        case .stalled: self = .stalled
        }
    }
}
