import NotificationCore

/// Where the queues of SQS are.
public struct SQSPlace: Sendable {
    let credentials: AWSCredentials
    let region: String
    /// To which a queue's name is appended: `https://sqs.eu-central-1.amazonaws.com/123456789012/carillon-`.
    let prefix: String
    let host: String
    /// Where calls go to.
    let endpoint: String

    /// - Parameter prefix: of the queues' URLs.
    /// - Throws: ``SenderSettingError``: what is wrong with the prefix.
    public init(credentials: AWSCredentials, region: String, prefix: String) throws(SenderSettingError) {
        let url = try ProviderURL(prefix)
        let parts = url.text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count > 3 else { throw SenderSettingError("must have the account in it: https://sqs.eu-central-1.amazonaws.com/123456789012/carillon-") }
        self.credentials = credentials
        self.region = region
        self.prefix = url.text + (prefix.utf8.last == UInt8(ascii: "/") ? "/" : "")
        self.host = url.host
        self.endpoint = parts[0] + "//" + parts[2] + "/"
    }
}

/// Why a call of SQS came to nothing.
public struct SQSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Of the service; nil when there was no answer of it.
    public let code: String?
    public let message: String

    public var description: String { self.code.map { "\($0): \(self.message)" } ?? self.message }
}

/// Calls one queue of Amazon SQS, or of a server that speaks as it does. Each call is signed (SigV4) and has a time limit; none is repeated here.
public struct SQSClient: Sendable {
    private static let timeLimit: Duration = .seconds(10)
    /// Ten messages of ours with their receipts are a tenth of it.
    private static let answerBound = 256 * 1024

    private let engine: TransferEngine
    private let signature: AWSSignature
    private let place: SQSPlace
    let queue: String

    /// - Parameter name: what stands behind the prefix.
    public init(engine: TransferEngine, place: SQSPlace, name: String) {
        self.engine = engine
        self.place = place
        self.signature = AWSSignature(credentials: place.credentials, region: place.region, service: "sqs")
        self.queue = place.prefix + name
    }

    /// Answers which were taken: nil, or why not.
    func send(_ bodies: [String]) async throws(SQSError) -> [String?] {
        SQSBatchAnswer(try await self.perform(.send(bodies, to: self.queue)), count: bodies.count).failures
    }

    func delete(_ receipts: [String]) async throws(SQSError) -> [String?] {
        SQSBatchAnswer(try await self.perform(.delete(receipts, from: self.queue)), count: receipts.count).failures
    }

    func hide(_ messages: [(receipt: String, seconds: Int)]) async throws(SQSError) -> [String?] {
        SQSBatchAnswer(try await self.perform(.hide(messages, in: self.queue)), count: messages.count).failures
    }

    func receive(_ limit: Int, wait: Int, hidden: Int) async throws(SQSError) -> [SQSMessage] {
        let call = SQSCall.receive(limit, from: self.queue, wait: wait, hidden: hidden)
        return SQSMessage.list(try await self.perform(call, timeLimit: Self.timeLimit + .seconds(wait)))
    }

    /// Messages that wait, and messages that somebody has: about.
    public func depth() async throws(SQSError) -> (waiting: Int, taken: Int) {
        let attributes = try await self.perform(.depth(of: self.queue))["Attributes"]
        func number(_ name: String) -> Int { attributes?[name]?.string.flatMap { Int($0) } ?? 0 }
        return (number("ApproximateNumberOfMessages"), number("ApproximateNumberOfMessagesNotVisible"))
    }

    private func perform(_ call: SQSCall, timeLimit: Duration = Self.timeLimit) async throws(SQSError) -> JSONValue {
        let body = call.body.encoded
        let headers = self.signature.headers(
            host: self.place.host, contentType: "application/x-amz-json-1.0", target: "AmazonSQS.\(call.operation)", body: body, now: .now())
        let request = TransferRequest(
            url: self.place.endpoint, kind: .post(headers: headers, body: body), timeLimit: timeLimit, keptBytes: Self.answerBound)
        let answer: TransferAnswer
        do throws(TransferError) {
            answer = try await self.engine.perform(request)
        } catch {
            throw SQSError(code: nil, message: error.message)
        }
        return try Self.judge(answer)
    }

    static func judge(_ answer: TransferAnswer) throws(SQSError) -> JSONValue {
        let isGood = (200...299).contains(answer.status)
        if isGood, answer.isCut { throw SQSError(code: nil, message: "the answer did not come to its end") }
        let json: JSONValue
        do throws(JSONError) {
            json = try JSONParser.parse(answer.body)
        } catch {
            throw SQSError(code: nil, message: "answered \(answer.status) and no JSON")
        }
        if isGood { return json }
        // `com.amazonaws.sqs#QueueDoesNotExist`
        let code = json["__type"]?.string.map { String($0.split(separator: "#").last ?? "") }
        throw SQSError(code: code, message: "answered \(answer.status)" + ((json["message"] ?? json["Message"])?.string.map { ": " + $0.prefix(300) } ?? ""))
    }
}
