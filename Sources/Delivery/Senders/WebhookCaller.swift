public import NotificationCore

/// One event for one endpoint.
public struct WebhookCall: Sendable {
    /// Of the event at this endpoint: the same over all attempts, so that the receiver knows it again.
    public var id: String
    public var url: String
    /// The one that signs first, then those it replaced.
    public var secrets: [String]
    public var type: String
    /// When it happened.
    public var timestamp: Timestamp
    /// JSON.
    public var data: [UInt8]
    /// What it is a part of: the endpoint is told, and may go on with it.
    public var trace: TraceContext?

    public init(id: String, url: String, secrets: [String], type: String, timestamp: Timestamp, data: [UInt8], trace: TraceContext? = nil) {
        self.id = id
        self.url = url
        self.secrets = secrets
        self.type = type
        self.timestamp = timestamp
        self.data = data
        self.trace = trace
    }

    /// What is sent and signed.
    public var body: [UInt8] {
        var bytes: [UInt8] = Array("{\"type\":".utf8)
        bytes.append(json: self.type)
        bytes += Array(",\"timestamp\":\"\(self.timestamp)\",\"data\":".utf8)
        bytes += self.data
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}

/// What came of one call.
public struct WebhookAttempt: Sendable {
    public enum Verdict: Sendable, Equatable {
        case accepted
        /// 410: the receiver wants no more of them.
        case gone
        case failed(String, after: Duration?)
        /// There was no call, through no fault of the receiver.
        case notMade(String)
    }

    public var verdict: Verdict
    /// HTTP's; nil when there was no answer.
    public var status: Int?
    public var duration: Duration
    /// The first KiB of the answer.
    public var answer: [UInt8]
}

/// Calls webhooks. Redirects are not followed, and only guarded addresses connected to.
public struct WebhookCaller: Sendable {
    /// An endpoint that asks to be left alone longer is asked again after this.
    static let longestPause: Duration = .seconds(24 * 3600)

    private let engine: TransferEngine
    private let timeLimit: Duration

    /// - Parameter engine: one that guards its addresses.
    public init(engine: TransferEngine, timeLimit: Duration = .seconds(15)) {
        self.engine = engine
        self.timeLimit = timeLimit
    }

    public func call(_ call: WebhookCall, now: Timestamp = .now()) async -> WebhookAttempt {
        await self.call(call, now: now, resolve: [])
    }

    func call(_ call: WebhookCall, now: Timestamp, resolve: [String]) async -> WebhookAttempt {
        let url: WebhookURL
        do {
            // It was checked when it was registered; what lies in a database may be older than the rules.
            url = try WebhookURL(call.url)
        } catch {
            return WebhookAttempt(verdict: .failed("the URL \(error)", after: nil), status: nil, duration: .zero, answer: [])
        }
        let body = call.body
        let headers =
            ["Content-Type: application/json", "User-Agent: Carillon"]
            + WebhookSignature.headers(secrets: call.secrets, id: call.id, timestamp: now, body: body)
            + (call.trace.map { ["traceparent: \($0.header)"] } ?? [])
        var request = TransferRequest(url: url.text, kind: .post(headers: headers, body: body), timeLimit: self.timeLimit)
        request.resolve = resolve
        do throws(TransferError) {
            let answer = try await self.engine.perform(request)
            return WebhookAttempt(verdict: Self.judge(answer), status: answer.status, duration: answer.duration, answer: answer.body)
        } catch {
            let verdict: WebhookAttempt.Verdict =
                switch error.code {
                case .overloaded, .cancelled: .notMade(error.message)
                case .refusedAddress, .timedOut, .failed, .refusedMail: .failed(error.message, after: nil)
                }
            return WebhookAttempt(verdict: verdict, status: nil, duration: error.duration, answer: [])
        }
    }

    static func judge(_ answer: TransferAnswer) -> WebhookAttempt.Verdict {
        switch answer.status {
        case 200...299: .accepted
        case 410: .gone
        case 300...399: .failed("answered \(answer.status): redirects are not followed", after: nil)
        case 429, 503: .failed("answered \(answer.status)", after: answer.retryAfter.map { min($0, Self.longestPause) })
        default: .failed("answered \(answer.status)", after: nil)
        }
    }
}
