import API
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import WebClient

/// A file that is the same for everybody. It is asked about each time and seldom sent (RFC 9111, `no-cache`): the modules of one version belong together.
struct FileRoute: PlainRoute {
    private let file: WebClient.File
    private let tag: String
    private let isPage: Bool

    /// Of a page: scripts, styles and requests of this host only, in no other site's frame (Content Security Policy 3).
    private static let policy = """
        default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-src 'self'; frame-ancestors 'self'; \
        form-action 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'
        """

    init(_ file: WebClient.File) {
        self.file = file
        self.tag = EntityTag.make(file.bytes)
        self.isPage = file.name.hasSuffix(".html")
    }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        var headers: HTTPHeaders = ["etag": self.tag, "cache-control": "public, no-cache", "x-content-type-options": "nosniff"]
        if self.isPage {
            headers.add(name: "content-security-policy", value: Self.policy)
            headers.add(name: "referrer-policy", value: "no-referrer")
        }
        if EntityTag.matches(request.head.headers[canonicalForm: "if-none-match"], self.tag) {
            return eventLoop.makeSucceededFuture(GatewayResponse(status: .notModified, headers: headers))
        }
        headers.add(name: "content-type", value: self.file.mediaType)
        return eventLoop.makeSucceededFuture(GatewayResponse(status: .ok, headers: headers, body: ByteBuffer(bytes: self.file.bytes)))
    }
}

/// `GET /client/{file}`: the files that there are, by their exact names. No path of a request ever reaches the file system.
struct ClientFilesRoute: PlainRoute {
    static let folder = "/client/"
    private let files: [String: FileRoute]

    init() throws {
        self.files = Dictionary(uniqueKeysWithValues: try WebClient.clientFiles().map { (Self.folder + $0.name, FileRoute($0)) })
    }

    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        guard let file = self.files[request.path] else {
            return eventLoop.makeSucceededFuture(Problem.notFound.response(instance: request.requestID))
        }
        return file.respond(to: request, on: eventLoop)
    }
}

extension GatewayRoutes {
    /// What every node serves to browsers: the client, the console, and where it is on the demo page.
    mutating func addPages(demo: Bool) throws {
        self.add(files: ClientFilesRoute.folder, try ClientFilesRoute())
        self.add(.GET, "/console", FileRoute(try WebClient.page("console.html")))
        if demo { self.add(.GET, "/demo", FileRoute(try WebClient.page("demo.html"))) }
    }
}
