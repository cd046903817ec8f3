import Foundation
import Gateway
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Testing

/// Where inputs for the listener lie: whole connections.
enum HTTPInputs {
    static let name = "http"
    static let words = [
        "GET / HTTP/1.1\r\n", "POST /v1/echo HTTP/1.1\r\n", "Host: x\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\n", "\r\n", "\r\n\r\n", "0\r\n\r\n", "3\r\nabc\r\n", "HTTP/1.0", "HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "Content-Type: application/x-ndjson\r\n", "Content-Encoding: gzip\r\n",
        "X-Forwarded-For: ", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n", ";", " ", "\t", "/api/v1/", "?a=b", "OPTIONS", "HEAD", "CONNECT", "\u{0}",
    ]
}

struct FuzzedEcho: PlainRoute {
    func respond(to request: GatewayRequest, on eventLoop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        eventLoop.makeSucceededFuture(.json(.ok, Array("{\"bytes\":\(request.body.readableBytes)}".utf8)))
    }
}

struct FuzzedSwallow: BodyRoute {
    func respond(to request: GatewayRequest, body: BodyParts) async throws -> GatewayResponse {
        var count = 0
        for try await part in body { count += part.readableBytes }
        return .json(.ok, Array("{\"bytes\":\(count)}".utf8))
    }
}

@Suite("Hostile connections")
struct HTTPTests {
    @Test("whatever comes over a connection, the listener answers the next one, holds nothing of it, and answers are answers")
    func connections() async throws {
        let settings = Fuzzer.Settings()
        if let only = settings.only, only != HTTPInputs.name { return }
        var routes = GatewayRoutes(origins: Origins(["https://app.example.com"]), fallback: GatewayRoutes.makeRouter().buildResponder())
        routes.add(.GET, "/health/live", FuzzedEcho())
        routes.add(.GET, "/v1/echo", FuzzedEcho())
        routes.add(.POST, "/v1/echo", FuzzedEcho())
        routes.add(body: "/v1/lines", contentType: "application/x-ndjson", FuzzedSwallow())
        var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0, nodeName: "fuzz")
        configuration.bodyLimit = 4096
        let server = GatewayServer(
            configuration: configuration, routes: routes, group: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "fuzz", factory: { _ in SwiftLogNoOpLogHandler() }))
        let address = try await server.start()
        let port = UInt16(try #require(address.port))
        // In the background: these sockets block.
        let tried = try await Task.detached { try Self.tryAll(port, settings) }.value
        #expect(tried > 10)
        while server.counters.connections > 0 { await Task.yield() }
        #expect(server.counters.bodyBytes == 0)
        await server.shutdown()
    }

    private static func tryAll(_ port: UInt16, _ settings: Fuzzer.Settings) throws -> Int {
        let runner = Parser(HTTPInputs.name, words: HTTPInputs.words, cost: 5) { input in
            let answer = try Self.exchange(port, input)
            try promise(answer.isEmpty || answer.starts(with: Array("HTTP/1.".utf8)), "an answer that is none: \(text(Array(answer.prefix(80))))")
            let alive = try Self.exchange(port, Array("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8), half: false)
            try promise(alive.starts(with: Array("HTTP/1.1 200".utf8)), "the next connection is not answered: \(text(Array(alive.prefix(80))))")
            return "\(answer.count == 0) \(text(Array(answer.prefix(12))))"
        }
        var fuzzer = try Fuzzer(runner, settings)
        let report = try fuzzer.run()
        for broken in report.broken { Issue.record("\(broken)") }
        #expect(report.kinds > 1)
        print("http: \(report.tried) inputs, \(report.kinds) kinds of outcomes")
        return report.tried
    }

    /// - Parameter half: closes this side once all is sent.
    private static func exchange(_ port: UInt16, _ input: [UInt8], half: Bool = true) throws -> [UInt8] {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if descriptor < 0 { throw Broken("there is no socket left") }
        defer { close(descriptor) }
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: Int(port))
        let connected = address.withSockAddr { connect(descriptor, $0, socklen_t($1)) }
        if connected != 0 { throw Broken("the listener takes no connection: \(errno)") }
        var sent = 0
        while sent < input.count {
            // It may have been closed by now, which is an answer, too.
            let count = input[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { break }
            sent += count
        }
        if half { shutdown(descriptor, Int32(SHUT_WR)) }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count <= 0 { return answer }
            answer += buffer[..<count]
        }
    }
}
