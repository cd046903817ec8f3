public import Hummingbird
public import Logging
import NIOCore
import NIOHTTP1

/// What Hummingbird's routes know of a request besides itself.
public struct CarillonRequestContext: RequestContext {
    public struct Source: RequestContextSource {
        public let logger: Logger
        public let request: GatewayRequest

        public init(logger: Logger, request: GatewayRequest) {
            self.logger = logger
            self.request = request
        }
    }

    public var coreContext: CoreRequestContextStorage
    /// The same request as the plain routes see it: its whole body, its query decoded. Its path is without prefix.
    public let request: GatewayRequest

    public var requestID: String { self.request.requestID }
    public var id: String { self.request.requestID }
    public var remoteAddress: String { self.request.remoteAddress }

    public init(source: Source) {
        self.coreContext = CoreRequestContextStorage(source: source)
        self.request = source.request
        for (key, value) in source.request.trace.logged(source.request.requestID) { self.logger[metadataKey: key] = value }
    }

    /// A part of the path by its name, percent-decoded.
    public func pathParameter(_ name: String) -> String? {
        self.parameters.get(name).map { Query.decode($0, plus: false) }
    }
}
