import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// One request as it is sent, perhaps more than once.
struct Call: Sendable {
    var method: HTTPMethod
    var url: String
    var safety: RetrySafety
    var contentType = "application/json"
    var idempotencyKey: String?
    var body: HTTPClientRequest.Body?
    /// For a deletion: that there is nothing any more is no error once an attempt of unknown outcome was made.
    var isDeletion = false
}

/// A successful answer.
struct Reply: Sendable {
    var status: Int
    var body: ByteBuffer
    /// An earlier request with the same `Idempotency-Key` got it.
    var isReplayed: Bool
    /// There was nothing to delete, after an attempt whose outcome is not known.
    var isGone = false
}

/// Sends requests, waits for answers, and repeats what may be repeated.
struct Transport: Sendable {
    let apiKey: String
    let configuration: CarillonClient.Configuration
    let http: HTTPClient
    let pause: @Sendable (Duration) async throws -> Void

    func send(_ call: Call) async throws(CarillonError) -> Reply {
        var machine = RetryMachine(call.safety, self.configuration)
        var inDoubt = false
        while true {
            let failure: CarillonError
            let outcome: RetryMachine.Outcome
            switch await self.attempt(call) {
            case .success(let reply): return reply
            case .failure(let attempt): (failure, outcome) = (attempt.error, attempt.outcome)
            }
            if call.isDeletion, failure.status == 404, inDoubt { return Reply(status: 404, body: ByteBuffer(), isReplayed: false, isGone: true) }
            inDoubt = inDoubt || failure.mayHaveHappened
            var error = failure
            error.mayHaveHappened = inDoubt
            guard failure.code != .cancelled, let wait = machine.pause(after: outcome, random: Double.random(in: 0...1)) else {
                error.attempts = max(1, machine.attempts)
                throw error
            }
            do {
                try await self.pause(wait)
            } catch {
                var cancelled = CarillonError(.cancelled, "The task was cancelled while it waited to try again.", mayHaveHappened: inDoubt)
                cancelled.attempts = machine.attempts
                throw cancelled
            }
        }
    }

    /// The same, with an answer in JSON.
    func send<Answer: Decodable>(_ call: Call, as type: Answer.Type) async throws(CarillonError) -> (answer: Answer, reply: Reply) {
        let reply = try await self.send(call)
        return (try Self.decode(type, reply), reply)
    }

    static func decode<Answer: Decodable>(_ type: Answer.Type, _ reply: Reply) throws(CarillonError) -> Answer {
        do {
            return try WireFormat.decoder.decode(type, from: Data(reply.body.readableBytesView))
        } catch {
            var failure = CarillonError(.invalidAnswer, "The answer is not understood: \(error)", mayHaveHappened: true)
            failure.status = reply.status
            throw failure
        }
    }

    // MARK: One attempt

    private struct Failure: Error {
        var error: CarillonError
        var outcome: RetryMachine.Outcome
    }

    private func attempt(_ call: Call) async -> Result<Reply, Failure> {
        var request = HTTPClientRequest(url: call.url)
        request.method = call.method
        request.headers = ["authorization": "Bearer \(self.apiKey)", "accept": "application/json, application/problem+json", "user-agent": "carillon-swift"]
        if let body = call.body {
            request.headers.add(name: "content-type", value: call.contentType)
            request.body = body
        }
        if let key = call.idempotencyKey { request.headers.add(name: "idempotency-key", value: key) }
        let (seconds, attoseconds) = self.configuration.timeout.components
        let timeout = TimeAmount.nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
        do {
            // The deadline holds for the answer's body too.
            let answer = try await self.http.execute(request, deadline: .now() + timeout)
            let body = try await answer.body.collect(upTo: self.configuration.answerLimit)
            return self.judge(answer.status, answer.headers, body)
        } catch {
            return .failure(Self.failure(error))
        }
    }

    private func judge(_ status: HTTPResponseStatus, _ headers: HTTPHeaders, _ body: ByteBuffer) -> Result<Reply, Failure> {
        if (200..<300).contains(status.code) {
            return .success(
                Reply(status: Int(status.code), body: body, isReplayed: headers.first(name: "idempotent-replayed") == "true"))
        }
        let problem = try? WireFormat.decoder.decode(ProblemBody.self, from: Data(body.readableBytesView))
        // A proxy's own error has no code: its status says what there is to know.
        let code = problem?.code.map(CarillonError.Code.init(rawValue:))
        // Of a 503 the text alone says whether the outcome is known; of a gateway's error it never is.
        var error = CarillonError(
            code ?? ([502, 503, 504].contains(status.code) ? .unavailable : .invalidAnswer), problem?.detail ?? problem?.title ?? status.reasonPhrase,
            mayHaveHappened: status.code >= 500)
        error.status = Int(status.code)
        error.errors = problem?.errors ?? []
        error.requestID = headers.first(name: "x-request-id")
        error.retryAfter = headers.first(name: "retry-after").flatMap { Int($0) }.flatMap { $0 >= 0 ? .seconds($0) : nil }
        return .failure(Failure(error: error, outcome: .status(Int(status.code), retryAfter: error.retryAfter)))
    }

    private static let unconnected: [HTTPClientError] = [.connectTimeout, .getConnectionFromPoolTimeout, .tlsHandshakeTimeout]
    private static let late: [HTTPClientError] = [.deadlineExceeded, .readTimeout, .writeTimeout]

    private static func failure(_ error: any Error) -> Failure {
        switch error {
        case is CancellationError:
            return Failure(error: CarillonError(.cancelled, "The task was cancelled.", mayHaveHappened: true), outcome: .noAnswer)
        case let error as UsersFailed:
            return Failure(error: CarillonError(.usersFailed, "The sequence of users threw: \(error.reason)"), outcome: .noAnswer)
        // To an address that is a number the connection fails with the system's own error.
        case let error as IOError where [ECONNREFUSED, ENETUNREACH].contains(error.errnoCode):
            return Failure(error: CarillonError(.connection, "The service cannot be reached: \(error)"), outcome: .noConnection)
        case is NIOConnectionError:
            return Failure(error: CarillonError(.connection, "The service cannot be reached: \(error)"), outcome: .noConnection)
        case let error as HTTPClientError where Self.unconnected.contains(error):
            return Failure(error: CarillonError(.connection, "The service cannot be reached: \(error)"), outcome: .noConnection)
        case let error as HTTPClientError where Self.late.contains(error):
            return Failure(error: CarillonError(.timeout, "The service did not answer in time.", mayHaveHappened: true), outcome: .noAnswer)
        case let error as HTTPClientError where error == .cancelled:
            return Failure(error: CarillonError(.cancelled, "The task was cancelled.", mayHaveHappened: true), outcome: .noAnswer)
        case is NIOTooManyBytesError:
            return Failure(error: CarillonError(.invalidAnswer, "The answer is larger than the configuration allows.", mayHaveHappened: true), outcome: .noAnswer)
        default:
            return Failure(error: CarillonError(.connection, "The connection broke: \(error)", mayHaveHappened: true), outcome: .noAnswer)
        }
    }
}
