public import AsyncHTTPClient
import NIOCore
import NIOHTTP1

/// A client of Carillon for applications: sends notifications with an API key.
///
/// It holds no state of its own and may be copied and shared between tasks. Its calls end: after at most ``Configuration/attempts`` attempts of at
/// most ``Configuration/timeout`` each. What is safe to repeat is repeated (see ``RetrySafety``), so that a deploy or a node that dies is not noticed.
public struct CarillonClient: Sendable, CustomStringConvertible {
    /// Bounds and times.
    public struct Configuration: Sendable {
        /// How long one attempt may take, from the connection to the answer's end.
        public var timeout: Duration
        /// How often a request is sent in all, where it may be repeated: at least once.
        public var attempts: Int
        /// The pause before the second attempt; it doubles with each further one. Each is shortened at random by up to a half.
        public var firstPause: Duration
        /// The longest pause. A server that asks for a longer one (`Retry-After`) is not asked again: the error says how long it wanted.
        public var longestPause: Duration
        /// Bytes of an answer.
        public var answerLimit: Int

        public init(
            timeout: Duration = .seconds(10), attempts: Int = 4, firstPause: Duration = .milliseconds(200), longestPause: Duration = .seconds(5),
            answerLimit: Int = 16 * 1024 * 1024
        ) {
            self.timeout = timeout
            self.attempts = max(1, attempts)
            self.firstPause = firstPause
            self.longestPause = longestPause
            self.answerLimit = answerLimit
        }
    }

    let service: ServiceURL
    let transport: Transport

    /// - Parameters:
    ///   - url: of the load balancer, or a node: `https://notifications.example.com`. A path before `/v1` is kept.
    ///   - apiKey: as `carillon apikey create` printed it (`ck_…`).
    ///   - httpClient: whose connections are used; its own is the caller's to shut down.
    /// - Throws: ``CarillonError`` with the code ``CarillonError/Code/invalidRequest`` for a URL or a key that cannot be one.
    public init(url: String, apiKey: String, configuration: Configuration = Configuration(), httpClient: HTTPClient = .shared) throws(CarillonError) {
        try self.init(url: url, apiKey: apiKey, configuration: configuration, httpClient: httpClient, pause: { try await Task.sleep(for: $0) })
    }

    /// - Parameter pause: waits between two attempts.
    package init(
        url: String, apiKey: String, configuration: Configuration, httpClient: HTTPClient,
        pause: @escaping @Sendable (Duration) async throws -> Void
    ) throws(CarillonError) {
        self.service = try ServiceURL(url)
        guard apiKey.hasPrefix("ck_"), apiKey.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw CarillonError(.invalidRequest, "The API key must be one that \"carillon apikey create\" printed: it begins with ck_.")
        }
        self.transport = Transport(apiKey: apiKey, configuration: configuration, http: httpClient, pause: pause)
    }

    /// Without the key.
    public var description: String { "CarillonClient(\(self.service.base))" }
}
