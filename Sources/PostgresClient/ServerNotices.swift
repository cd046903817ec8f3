import CLibpq
import Logging

/// Takes the server's NOTICE and WARNING messages, which libpq would otherwise print to standard error.
final class ServerNotices {
    private let logger: Logger

    init(logger: Logger) {
        self.logger = logger
    }

    /// The receiver must outlive the connection.
    func attach(to connection: OpaquePointer) {
        let me = Unmanaged.passUnretained(self).toOpaque()
        PQsetNoticeReceiver(
            connection,
            { argument, result in
                guard let argument, let result else { return }
                Unmanaged<ServerNotices>.fromOpaque(argument).takeUnretainedValue().received(result)
            }, me)
    }

    private func received(_ result: OpaquePointer) {
        logger.trace(
            "The database sent a notice",
            metadata: [
                LogKey.sqlState: "\(PGField.sqlState.read(result) ?? "")", LogKey.reason: "\(PGField.message.read(result) ?? "")",
            ])
    }
}
