import NotificationCore

/// One exchange with another server: an HTTP request, or a mail.
struct TransferRequest: Sendable {
    enum Kind: Sendable {
        /// A POST. `headers` are whole lines, checked by who makes them: no CR, no LF.
        case post(headers: [String], body: [UInt8])
        /// A whole message with CRLF line ends, its headers included.
        case mail(from: String, to: String, message: [UInt8])
    }

    var url: String
    var kind: Kind
    /// From its start to its end, the resolution of the name included.
    var timeLimit: Duration = .seconds(15)
    /// Of a mail's end, in place of what is left of that limit: from its last byte to the server's word on it. Who hangs up before that word does not know whether
    /// the mail was taken, and sends it again (RFC 5321, 4.5.3.2.6).
    var lastWordLimit: Duration?
    /// How much of the answer's body is kept, in bytes.
    var keptBytes = 1024
    /// User and password: HTTP's basic authentication, or whatever the mail server offers.
    var credentials: (user: String, password: String)?
    var startTLS: StartTLS = .none
    /// Addresses for names, as libcurl's CURLOPT_RESOLVE takes them: in place of the resolver.
    var resolve: [String] = []

    enum StartTLS: String, Sendable, CaseIterable {
        case none, opportunistic, required
    }
}

/// What the other server said.
struct TransferAnswer: Sendable {
    /// HTTP's status, or the mail server's last reply code.
    var status: Int
    /// The first bytes of the body.
    var body: [UInt8]
    /// There was more of it, or it did not come to its end.
    var isCut: Bool
    /// Of `Retry-After`, in either of its forms (RFC 9110, 10.2.3).
    var retryAfter: Duration?
    var duration: Duration
}

/// Why there was no answer.
struct TransferError: Error, Sendable, CustomStringConvertible {
    enum Code: Sendable, Equatable {
        /// The address is not one that may be connected to; nothing was sent.
        case refusedAddress
        case timedOut
        /// The connection could not be made, broke, or spoke another protocol.
        case failed
        /// The mail server refused for good (5xx), or for now (4xx).
        case refusedMail(permanent: Bool)
        /// Too much waits here already.
        case overloaded
        case cancelled
    }

    var code: Code
    var message: String
    var duration: Duration = .zero

    var description: String { self.message }
}
