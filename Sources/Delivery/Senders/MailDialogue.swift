/// What a mail server says of one message, reply by reply (RFC 5321, 4.2), and whether a refusal is the message's end: a machine without I/O.
///
/// Only what is said of the recipient or of the message itself is final. What is said of us (a login, a sender, a policy, a blocked address) is a matter of settings or
/// of the moment: the message waits for its mending.
struct MailDialogue: Sendable {
    struct Refusal: Sendable, Equatable {
        var text: String
        var isFinal: Bool
    }

    /// The last reply of the server, where that was a refusal.
    private(set) var refusal: Refusal?
    /// Commands of this message that were accepted: the first is its sender. A connection that is used again begins with it; on a new one a greeting is accepted first.
    private var accepted = 0

    /// One line of a reply, without its end.
    mutating func take(_ line: String) {
        guard let code = Int(line.prefix(3)), line.utf8.count >= 3 else { return }
        // A line that is followed by others of the same reply.
        let isLast = line.utf8.count == 3 || line.utf8.dropFirst(3).first != UInt8(ascii: "-")
        switch code {
        // Goodbye, which says nothing of what was before it.
        case 221: break
        case 220:
            // The greeting, or the beginning of TLS, after which it is greeted again.
            self.refusal = nil
            self.accepted = -1
        case 200...399:
            self.refusal = nil
            if isLast, code == 250 || code == 251 || code == 252 { self.accepted += 1 }
        case 400...499: self.refusal = Refusal(text: line, isFinal: false)
        case 500...599: self.refusal = Refusal(text: line, isFinal: self.isFinal(code, Self.enhanced(line)))
        default: break
        }
    }

    private func isFinal(_ code: Int, _ enhanced: [Int]) -> Bool {
        // Before the recipient it was about us. The size is the exception: it may be told with the sender (RFC 1870).
        if enhanced.starts(with: [5, 3, 4]) || code == 552 && enhanced.isEmpty { return self.accepted >= 0 }
        guard self.accepted >= 1 else { return false }
        switch enhanced.dropFirst().first {
        // Addresses: but not those of the sender (5.1.7, 5.1.8, RFC 3463; null MX of the sender, 5.1.10 is of the recipient).
        case 1?: return enhanced.count < 3 || ![7, 8].contains(enhanced[2])
        // Mailboxes, and what a message is made of.
        case 2?, 6?: return true
        // The server itself, protocol, security and policy.
        case 3?, 5?, 7?: return false
        // The route to the recipient, or nothing said in particular: by the code.
        default: return [550, 551, 553, 554, 556].contains(code)
        }
    }

    /// The status code behind the reply's (RFC 3463): of 5.1.1 its three numbers. Empty: there is none.
    private static func enhanced(_ line: String) -> [Int] {
        guard let word = line.dropFirst(4).split(separator: " ", maxSplits: 1).first else { return [] }
        let parts = word.split(separator: ".", omittingEmptySubsequences: false)
        let numbers = parts.compactMap { part in part.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(part) : nil }
        return parts.count == 3 && numbers.count == 3 && numbers[0] == 5 ? numbers : []
    }
}
