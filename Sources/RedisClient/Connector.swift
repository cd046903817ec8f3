internal import NIOCore
internal import NIOPosix
internal import NIOSSL

/// What a connection is for.
enum ConnectionPurpose: Sendable {
    case commands
    case subscriptions
    /// Asking a sentinel or a node of a cluster who serves what.
    case watch

    var probing: Liveness.Probing {
        switch self {
        case .commands, .watch: .whenIdle
        case .subscriptions: .always
        }
    }
}

/// Opens sockets, with TLS where the endpoint asks for it.
struct Connector {
    let configuration: RedisConnectionConfiguration
    let purpose: ConnectionPurpose

    /// A connection that is ready to be greeted.
    func connect(to endpoint: RedisEndpoint, on eventLoop: any EventLoop) -> EventLoopFuture<NIOLoopBound<Connection>> {
        eventLoop.assertInEventLoop()
        let tls: NIOSSLContext?
        do {
            tls = endpoint.usesTLS ? try configuration.tls.context() : nil
        } catch {
            return eventLoop.makeFailedFuture(error)
        }
        let configuration = configuration, purpose = purpose
        return ClientBootstrap(group: eventLoop)
            .connectTimeout(configuration.connectTimeout)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls { try pipeline.addHandler(Self.handler(tls, host: endpoint.host)) }
                    try pipeline.addHandler(Connection(channel: channel, address: endpoint.address, configuration: configuration, purpose: purpose))
                }
            }
            .connect(host: endpoint.host, port: endpoint.port)
            .flatMapThrowing { channel in
                NIOLoopBound(try channel.pipeline.syncOperations.handler(type: Connection.self), eventLoop: channel.eventLoop)
            }
    }

    private static func handler(_ context: NIOSSLContext, host: String) throws -> NIOSSLClientHandler {
        do {
            return try NIOSSLClientHandler(context: context, serverHostname: host)
        } catch let error as NIOSSLExtraError where error == .cannotUseIPAddressInSNI {
            // RFC 6066 allows names only; an address is still compared with those in the certificate.
            return try NIOSSLClientHandler(context: context, serverHostname: nil)
        }
    }
}

extension RedisError {
    /// What NIO says about a socket, in this module's words.
    init(connecting error: any Error) {
        switch error {
        case let error as RedisError: self = error
        case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError:
            // BoringSSL has one word for both.
            let isDistrusted = "\(error)".contains("CERTIFICATE_VERIFY_FAILED")
            let reason = isDistrusted ? "the server's certificate is of no trusted authority, or has expired" : "check certificates and names"
            self.init(code: .tls, message: "TLS with Redis failed, \(reason): \(error)")
        default:
            self.init(code: .connectionLost, message: "no connection to Redis, check that it runs and is reachable: \(error)")
        }
    }
}
