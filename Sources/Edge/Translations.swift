import NIOCore
import NotificationCore

/// What the event stream says, in the form of another transport.
enum MessageForm: Int, CaseIterable {
    /// JSON objects `{"event","id","data"}`, joined by commas.
    case list
    /// The same, each as a text message of a WebSocket (RFC 6455).
    case webSocket
    /// Packets of Socket.IO 5 within messages of Engine.IO 4, joined by its record separator: the payload of a poll.
    case enginePolling
    /// The same, each as a text message of a WebSocket.
    case engineWebSocket
}

struct Translated {
    var bytes = ByteBuffer()
    /// How many events these are.
    var events = 0
}

/// The last translation into each form. An event of one user is asked for by each of the user's connections in turn, one for all users by
/// each connection of the loop: it is made once.
struct Translations {
    private var last: [(blocks: ByteBuffer, translated: Translated)?] = Array(repeating: nil, count: MessageForm.allCases.count)
    /// Times that one was made.
    private(set) var made = 0

    mutating func translate(_ blocks: ByteBuffer, into form: MessageForm) -> Translated {
        // The same storage is equal at once.
        if let last = self.last[form.rawValue], last.blocks == blocks { return last.translated }
        let translated = Self.make(blocks, form)
        self.made += 1
        self.last[form.rawValue] = (blocks, translated)
        return translated
    }

    /// Holds no message longer than its loop's turn.
    mutating func forget() {
        for index in self.last.indices where self.last[index] != nil { self.last[index] = nil }
    }

    static func make(_ blocks: ByteBuffer, _ form: MessageForm) -> Translated {
        var translated = Translated()
        translated.bytes.reserveCapacity(blocks.readableBytes + 64)
        blocks.withUnsafeReadableBytes { bytes in
            StreamBlock.forEach(in: bytes) { block in
                var message: [UInt8] = []
                switch form {
                case .list:
                    // What is asked for next is said with the whole answer, which is itself the greeting.
                    guard let data = block.data, !block.event.elementsEqual("ready".utf8) else { return }
                    if translated.events > 0 { translated.bytes.writeInteger(UInt8(ascii: ",")) }
                    Self.append(block, data, to: &message)
                    translated.bytes.writeBytes(message)
                case .webSocket:
                    Self.append(block, block.data, to: &message)
                    WebSocketFrame.write(.text, message, to: &translated.bytes)
                case .enginePolling:
                    if translated.events > 0 { translated.bytes.writeInteger(EnginePacket.separator) }
                    Self.appendPacket(block, to: &message)
                    translated.bytes.writeBytes(message)
                case .engineWebSocket:
                    Self.appendPacket(block, to: &message)
                    WebSocketFrame.write(.text, message, to: &translated.bytes)
                }
                translated.events += 1
            }
        }
        return translated
    }

    /// `{"event","id","data"}`.
    private static func append(_ block: StreamBlock, _ data: UnsafeRawBufferPointer?, to bytes: inout [UInt8]) {
        bytes.reserveCapacity(64 + (data?.count ?? 0))
        bytes.append(contentsOf: "{\"event\":\"".utf8)
        if block.event.isEmpty {
            bytes.append(contentsOf: (data == nil ? "position" : "notification").utf8)
        } else {
            bytes.append(contentsOf: block.event)
        }
        bytes.append(contentsOf: "\",\"id\":".utf8)
        if let id = block.id {
            bytes.append(UInt8(ascii: "\""))
            bytes.append(contentsOf: id)
            bytes.append(UInt8(ascii: "\""))
        } else {
            bytes.append(contentsOf: "null".utf8)
        }
        bytes.append(contentsOf: ",\"data\":".utf8)
        Self.append(data: block, position: false, to: &bytes)
        bytes.append(UInt8(ascii: "}"))
    }

    /// `42["notification",{…,"last_event_id":"1-42"}]`: a message of Engine.IO with an event of Socket.IO.
    private static func appendPacket(_ block: StreamBlock, to bytes: inout [UInt8]) {
        bytes.reserveCapacity(64 + (block.data?.count ?? 0))
        bytes.append(contentsOf: "42[\"".utf8)
        if block.event.isEmpty {
            bytes.append(contentsOf: (block.data == nil ? "position" : "notification").utf8)
        } else {
            // What becomes of a notification is said below its name.
            let isAbout = ["update", "delete", "read_all"].contains { block.event.elementsEqual($0.utf8) }
            if isAbout { bytes.append(contentsOf: "notification:".utf8) }
            bytes.append(contentsOf: block.event)
        }
        bytes.append(contentsOf: "\",".utf8)
        // These two have it among their data.
        let saysIt = ["ready", "resync"].contains { block.event.elementsEqual($0.utf8) }
        Self.append(data: block, position: !saysIt, to: &bytes)
        bytes.append(UInt8(ascii: "]"))
    }

    /// The data, and as further members what the event stream has beside it.
    private static func append(data block: StreamBlock, position: Bool, to bytes: inout [UInt8]) {
        guard let data = block.data else {
            bytes.append(contentsOf: "{\"last_event_id\":\"".utf8)
            bytes.append(contentsOf: block.id ?? UnsafeRawBufferPointer(start: nil, count: 0))
            bytes.append(contentsOf: "\"}".utf8)
            return
        }
        bytes.append(contentsOf: data.dropLast())
        if position, let id = block.id {
            bytes.append(contentsOf: ",\"last_event_id\":\"".utf8)
            bytes.append(contentsOf: id)
            bytes.append(UInt8(ascii: "\""))
        }
        if let retry = block.retry {
            bytes.append(contentsOf: ",\"retry\":".utf8)
            bytes.append(contentsOf: retry)
        }
        bytes.append(UInt8(ascii: "}"))
    }
}
