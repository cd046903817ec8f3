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
        if let text = request.header("x-api-key") ?? Credentials.bearer(request.header("authorization")), text.hasPrefix("ck_"), text.utf8.count <= 128,
            case .some(.some(let key)) = credentials.cachedKey(text), key.scopes.contains(scope)
        {
            do throws(Problem) {
                try credentials.admit(key, request)
                body(key, promise)
            } catch {
                promise.fail(error)
            }
            return promise.futureResult
        }
        Task {
            do throws(Problem) {
                body(try await credentials.application(request, scope: scope), promise)
            } catch {
                promise.fail(error)
            }
        }
        return promise.futureResult
    }
}
