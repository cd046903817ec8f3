internal import NIOSSL

/// The certificates of `rediss://`, as paths of PEM files. They are read anew for each connection, since certificates on disk change.
///
/// Always TLS 1.2 or later (RFC 9325), and the server's certificate must name the host that was asked for.
public struct RedisTLS: Sendable, Hashable {
    /// Whose certificates are trusted. Nil: the system's.
    public var authorities: String?
    /// What the server is shown, the chain behind it, and its key: both or neither.
    public var certificate: String?
    public var key: String?

    public init() {}

    /// Whether the files can be used.
    ///
    /// - Throws: ``RedisError`` with the code `tls`.
    public func check() throws(RedisError) {
        _ = try context()
    }

    func context() throws(RedisError) -> NIOSSLContext {
        do {
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.minimumTLSVersion = .tlsv12
            if let authorities { configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(authorities)) }
            if let certificate { configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) } }
            if let key { configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)) }
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw RedisError(code: .tls, message: "the certificates for Redis cannot be used: \(error)")
        }
    }
}
