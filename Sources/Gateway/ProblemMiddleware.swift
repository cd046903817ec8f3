public import Hummingbird
import HTTPTypes
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypesHTTP1
import NotificationCore
import NotificationStore

/// Turns what routes throw into `application/problem+json` (RFC 9457).
public struct ProblemMiddleware: RouterMiddleware {
    public typealias Context = CarillonRequestContext

    private let failure: String

    /// - Parameter failure: the code, without its prefix, for errors of the service itself.
    public init(failure: String = "internal_error") {
        self.failure = failure
    }

    public func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        // The ids are for the audit log, which has what writes.
        if let route = context.endpointPath { context.request.trace.matched(route, request.method == .get ? [] : Self.ids(context)) }
        do {
            return try await next(request, context)
        } catch {
            let problem = Problem(caught: error, failure: self.failure)
            // Whoever made a problem of it has told the log.
            if problem.status.code >= 500, !(error is Problem) {
                // Not its path, which may hold the token of an unsubscribe link.
                context.logger.error("request failed", metadata: ["error": "\(error)", "route": "\(context.endpointPath ?? "")"])
            }
            return problem.response(instance: context.requestID).hummingbird
        }
    }

    /// The path's parameters for the audit log: those that are ids, and no secrets.
    private static func ids(_ context: Context) -> [AuditEntry.Parameter] {
        context.parameters.compactMap { name, value in
            guard name != "token", let id = OpaqueID(Query.decode(value, plus: false)) else { return nil }
            return AuditEntry.Parameter(name: String(name), value: id.value)
        }
    }
}

extension Problem {
    /// - Parameter failure: the code, without its prefix, for errors of the service itself.
    public init(caught error: any Error, failure: String) {
        switch error {
        case let problem as Problem: self = problem
        case let invalid as ValidationError: self.init(invalid)
        case let store as StoreError: self.init(store, failure: failure)
        case let http as HTTPError where http.status == .notFound: self = .notFound
        case let http as HTTPError where (400..<500).contains(http.status.code):
            self.init(HTTPResponseStatus(statusCode: http.status.code), "invalid_request", http.body ?? http.status.reasonPhrase)
        default: self.init(.internalServerError, failure, "Something went wrong here. It is in the log under the request's id.")
        }
    }
}

extension GatewayResponse {
    /// The same for Hummingbird's routes.
    public var hummingbird: Response {
        Response(
            status: HTTPResponse.Status(code: Int(self.status.code), reasonPhrase: self.status.reasonPhrase),
            headers: HTTPFields(self.headers, splitCookie: false), body: ResponseBody(byteBuffer: self.body))
    }
}
