import Gateway
import NIOCore
import NotificationStore

extension EventLoop {
    /// Answers an application's request once its API key is known to have the scope: without a task when the key was seen a moment ago.
    func answer(
        to request: GatewayRequest, scope: Scope, credentials: Credentials,
        _ body: @escaping @Sendable (APIKeyStore.Key, EventLoopPromise<GatewayResponse>) -> Void
    ) -> EventLoopFuture<GatewayResponse> {
        let promise = self.makePromise(of: GatewayResponse.self)
        let authorization = request.header("authorization")
        let header = request.header("x-api-key")
        if let text = header ?? Credentials.bearer(authorization), text.hasPrefix("ck_"), text.utf8.count <= 128,
            case .some(.some(let key)) = credentials.cachedKey(text), key.scopes.contains(scope)
        {
            body(key, promise)
            return promise.futureResult
        }
        Task {
            do throws(Problem) {
                body(try await credentials.application(authorization, apiKey: header, scope: scope), promise)
            } catch {
                promise.fail(error)
            }
        }
        return promise.futureResult
    }
}
