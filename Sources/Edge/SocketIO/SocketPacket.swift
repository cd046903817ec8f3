import NIOCore
import NotificationCore

/// A packet of Socket.IO (protocol revision 5), as a client sends it: type, namespace, number, JSON.
enum SocketPacket: Equatable {
    case connect(namespace: String, auth: JSONValue?)
    case disconnect(namespace: String)
    /// What it says is not read: clients have nothing to say here.
    case event
    case acknowledgement

    /// Nil for what is no packet, for a server's, and for binary ones.
    init?(_ text: ByteBuffer) {
        var rest = Array(text.readableBytesView)[...]
        guard let type = rest.popFirst() else { return nil }
        let namespace = Self.namespace(&rest)
        switch type {
        case UInt8(ascii: "0"):
            if rest.isEmpty {
                self = .connect(namespace: namespace, auth: nil)
                return
            }
            guard let json = try? JSONParser.parse(Array(rest)), case .object = json else { return nil }
            self = .connect(namespace: namespace, auth: json)
        case UInt8(ascii: "1"):
            guard rest.isEmpty else { return nil }
            self = .disconnect(namespace: namespace)
        case UInt8(ascii: "2"), UInt8(ascii: "3"):
            rest = rest.drop { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            guard rest.first == UInt8(ascii: "["), rest.last == UInt8(ascii: "]") else { return nil }
            self = type == UInt8(ascii: "2") ? .event : .acknowledgement
        default: return nil
        }
    }

    /// Up to the comma, where it is not "/".
    private static func namespace(_ rest: inout ArraySlice<UInt8>) -> String {
        guard rest.first == UInt8(ascii: "/") else { return "/" }
        let end = rest.firstIndex(of: UInt8(ascii: ",")) ?? rest.endIndex
        let namespace = String(decoding: rest[..<end], as: UTF8.self)
        rest = rest[end...].dropFirst()
        return namespace
    }

    /// The answer to a client's CONNECT: within a message of Engine.IO.
    static func connected(id: String) -> [UInt8] { Self.bytes("40", nil, [("sid", .string(id))]) }

    /// The same when it may not.
    static func refused(namespace: String, message: String, data: JSONValue? = nil) -> [UInt8] {
        Self.bytes("44", namespace, [("message", .string(message))] + (data.map { [("data", $0)] } ?? []))
    }

    /// After which a client does not come back by itself.
    static let disconnect: [UInt8] = Array("41".utf8)

    private static func bytes(_ type: String, _ namespace: String?, _ members: [(name: String, value: JSONValue)]) -> [UInt8] {
        var bytes = Array(type.utf8)
        if let namespace, namespace != "/" { bytes += Array(namespace.utf8) + [UInt8(ascii: ",")] }
        return bytes + JSONValue.object(members).encoded
    }
}
