import NIOCore

/// The sequence of users threw this.
struct UsersFailed: Error {
    let reason: any Error
}

/// The body of a trigger with many users, `application/x-ndjson`: the message, then one user a line, in parts of about 32 KiB. A part is made
/// when the connection wants it: the users are asked for no faster than they are sent.
struct UserLines<Users: AsyncSequence & Sendable>: AsyncSequence, Sendable where Users.Element == String {
    private static var partSize: Int { 32 * 1024 }

    let first: ByteBuffer
    let users: Users

    func makeAsyncIterator() -> Iterator { Iterator(first: self.first, users: self.users.makeAsyncIterator()) }

    struct Iterator: AsyncIteratorProtocol {
        var first: ByteBuffer?
        var users: Users.AsyncIterator
        private var isOver = false

        init(first: ByteBuffer, users: Users.AsyncIterator) {
            self.first = first
            self.users = users
        }

        mutating func next() async throws -> ByteBuffer? {
            if self.isOver { return nil }
            var part = ByteBuffer()
            if var first = self.first {
                self.first = nil
                part.writeBuffer(&first)
                part.writeInteger(UInt8(ascii: "\n"))
            }
            while part.readableBytes < UserLines.partSize {
                let user: String?
                do {
                    user = try await self.users.next()
                } catch {
                    throw UsersFailed(reason: error)
                }
                guard let user else {
                    self.isOver = true
                    break
                }
                part.write(line: user)
            }
            return part.readableBytes > 0 ? part : nil
        }
    }
}

extension ByteBuffer {
    /// A JSON string (RFC 8259, 7) and a line feed.
    mutating func write(line text: String) {
        let digits = Array("0123456789abcdef".utf8)
        self.writeInteger(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): self.writeBytes([UInt8(ascii: "\\"), byte])
            case 0..<0x20: self.writeBytes(Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]])
            default: self.writeInteger(byte)
            }
        }
        self.writeBytes([UInt8(ascii: "\""), UInt8(ascii: "\n")])
    }
}
