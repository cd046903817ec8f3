public import Hummingbird
public import NIOHTTP1

/// What a node answers: the hot routes by exact path, the streams, and Hummingbird's router for the rest.
///
/// Paths are canonical: `/v1/internal/notify`, `/health/live`. What clients send with `/api/v1` or `/api` is brought to that form first.
public struct GatewayRoutes: Sendable {
    struct Plain: Sendable {
        var method: HTTPMethod
        var route: any PlainRoute
        var publishes: Bool
    }

    /// Who answers a request.
    enum Target: Sendable {
        case plain(any PlainRoute)
        case stream(any StreamRoute)
        case body(any BodyRoute)
        case fallback(any HTTPResponder<CarillonRequestContext>)
        case preflight
        case problem(Problem)
    }

    public var origins: Origins
    /// The role that this node would need to answer that method and canonical path; nil when it can. Asked before anything else.
    public var wrongRole: @Sendable (HTTPMethod, String) -> String?
    /// Sees canonical paths only. Of what it throws, ``Problem`` is answered as such.
    public var fallback: (any HTTPResponder<CarillonRequestContext>)?
    private var plain: [String: [Plain]] = [:]
    private var streams: [String: any StreamRoute] = [:]
    /// Of those `GET` requests that ask for a WebSocket.
    private var webSockets: [String: any StreamRoute] = [:]
    /// Of ``fallback``, where it is a router's.
    private var routed: [ServedRoute] = []
    private var folders: [(path: String, route: any PlainRoute)] = []
    private var bodies: [String: (contentType: String, route: any BodyRoute)] = [:]

    public init(
        origins: Origins, wrongRole: @escaping @Sendable (HTTPMethod, String) -> String? = { _, _ in nil },
        fallback: (any HTTPResponder<CarillonRequestContext>)? = nil
    ) {
        self.origins = origins
        self.wrongRole = wrongRole
        self.fallback = fallback
    }

    /// A router for ``fallback`` whose routes' errors are answered as problems.
    public static func makeRouter() -> Router<CarillonRequestContext> {
        let router = Router(context: CarillonRequestContext.self)
        router.add(middleware: ProblemMiddleware())
        return router
    }

    /// Has the router answer whatever the other routes do not.
    public mutating func use(_ router: Router<CarillonRequestContext>) {
        self.fallback = router.buildResponder()
        self.routed = router.routes.map { ServedRoute(method: $0.method.rawValue, path: $0.path.description) }
    }

    /// All that is answered here, sorted, without what follows of itself: `HEAD` for each `GET`, and `OPTIONS`.
    public var served: [ServedRoute] {
        var routes = Set(self.routed)
        for (path, entries) in self.plain {
            for entry in entries { routes.insert(ServedRoute(method: entry.method.rawValue, path: path)) }
        }
        for folder in self.folders { routes.insert(ServedRoute(method: HTTPMethod.GET.rawValue, path: folder.path + "{file}")) }
        for path in self.streams.keys { routes.insert(ServedRoute(method: HTTPMethod.GET.rawValue, path: path)) }
        return routes.sorted()
    }

    /// A route for `GET` answers `HEAD` as well.
    ///
    /// - Parameter publishes: its bodies may be as large as ``GatewayConfiguration/publishBodyLimit``.
    public mutating func add(_ method: HTTPMethod, _ path: String, _ route: any PlainRoute, publishes: Bool = false) {
        self.plain[path, default: []].append(Plain(method: method, route: route, publishes: publishes))
    }

    /// Answers `GET` for each path that is that one, which ends in a slash, and one more part.
    public mutating func add(files path: String, _ route: any PlainRoute) {
        self.folders.append((path, route))
    }

    /// Takes over the connections of `GET` requests for that path.
    public mutating func add(stream path: String, _ route: any StreamRoute) {
        self.streams[path] = route
    }

    /// Takes `GET` requests for that path that ask for an upgrade to a WebSocket. Others are for the plain route of the path.
    public mutating func add(webSocket path: String, _ route: any StreamRoute) {
        self.webSockets[path] = route
    }

    /// Takes `POST` requests for that path whose body is of that media type, in lower case, as it comes. Others are for the plain route of the path.
    public mutating func add(body path: String, contentType: String, _ route: any BodyRoute) {
        self.bodies[path] = (contentType, route)
    }

    /// For what is not found: the methods that the path has here.
    func methods(of path: String) -> [HTTPMethod] {
        var methods = (self.plain[path] ?? []).map(\.method)
        methods += self.routed.filter { $0.path == path }.map { HTTPMethod(rawValue: $0.method) }
        // A word of its own is not a parameter's value.
        if methods.isEmpty { methods = self.routed.filter { $0.matches(path) }.map { HTTPMethod(rawValue: $0.method) } }
        if methods.contains(.GET) { methods.append(.HEAD) }
        if self.streams[path] != nil { methods.append(.GET) }
        if self.file(path) != nil { methods += [.GET, .HEAD] }
        return methods
    }

    /// Of a folder, where the path is one part below it.
    private func file(_ path: String) -> (any PlainRoute)? {
        self.folders.first { path.hasPrefix($0.path) && !path.dropFirst($0.path.count).contains("/") }?.route
    }

    /// What metrics call the request: its path as it was declared; nil where the router knows, or nobody.
    func label(of incoming: IncomingRequest) -> String? {
        let path = incoming.path.text
        switch incoming.target {
        case .plain:
            // An excess stream is answered by a plain route, too.
            if self.plain[path] != nil || self.streams[path] != nil { return path }
            return self.folders.first { path.hasPrefix($0.path) }.map { $0.path + "{file}" }
        case .body, .stream: return path
        case .preflight: return "preflight"
        case .fallback, .problem: return nil
        }
    }

    /// How large a body may be.
    enum BodySize {
        case usual, published, passed
    }

    func resolve(_ method: HTTPMethod, _ path: String, headers: HTTPHeaders = HTTPHeaders()) -> (target: Target, size: BodySize) {
        if method == .OPTIONS { return (.preflight, .usual) }
        if let role = self.wrongRole(method, path) { return (.problem(.wrongRole(role)), .usual) }
        if method == .POST, let body = self.bodies[path], Self.mediaType(headers.first(name: "content-type")) == body.contentType { return (.body(body.route), .passed) }
        if method == .GET, let socket = self.webSockets[path], headers.first(name: "upgrade")?.lowercased() == "websocket" {
            return (.stream(socket), .usual)
        }
        let asked = method == .HEAD ? .GET : method
        if let plain = self.plain[path]?.first(where: { $0.method == asked }) { return (.plain(plain.route), plain.publishes ? .published : .usual) }
        if asked == .GET, let route = self.file(path) { return (.plain(route), .usual) }
        if method == .GET, let stream = self.streams[path] { return (.stream(stream), .usual) }
        if let fallback { return (.fallback(fallback), .usual) }
        let methods = self.methods(of: path)
        return (.problem(methods.isEmpty ? .notFound : .methodNotAllowed(methods)), .usual)
    }

    /// Whether ``resolve(_:_:headers:)`` finds the same whatever the headers are.
    func isResolvedByPath(_ method: HTTPMethod, _ path: String) -> Bool { method == .POST && self.bodies[path] == nil }

    /// Without parameters, in lower case (RFC 9110, 8.3.1).
    private static func mediaType(_ contentType: String?) -> String? {
        contentType.map { $0.prefix { $0 != ";" }.filter { $0 != " " && $0 != "\t" }.lowercased() }
    }
}

extension Problem {
    static func methodNotAllowed(_ methods: [HTTPMethod]) -> Problem {
        let allowed = methods.map(\.rawValue).joined(separator: ", ")
        return Problem(.methodNotAllowed, "method_not_allowed", "This path answers \(allowed).", headers: ["allow": allowed])
    }
}
