import Authentication
import Foundation
import Logging
import NIOConcurrencyHelpers

/// The time that a verifier believes in.
final class TestTime: Sendable {
    private let seconds = NIOLockedValueBox(Fixture.now)
    var now: Int64 {
        get { seconds.withLockedValue { $0 } }
        set { seconds.withLockedValue { $0 = newValue } }
    }
    func advance(by interval: Int64) { seconds.withLockedValue { $0 += interval } }
}

/// Keeps every log line as one text, metadata included.
struct LogCapture: Sendable {
    private let storage = NIOLockedValueBox<[String]>([])
    var lines: [String] { storage.withLockedValue { $0 } }

    var logger: Logger {
        var logger = Logger(label: "test") { [storage] _ in Handler(storage: storage) }
        logger.logLevel = .trace
        return logger
    }

    private struct Handler: LogHandler {
        let storage: NIOLockedValueBox<[String]>
        var metadata: Logger.Metadata = [:]
        var logLevel: Logger.Level = .trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            storage.withLockedValue { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
        }
    }
}

func makeVerifier(
    _ configuration: TokenConfiguration,
    time: TestTime = TestTime(),
    log: LogCapture = LogCapture(),
    clock: any Clock<Duration> = ContinuousClock(),
    fetchTimeout: Duration = .seconds(5),
    cacheCapacity: Int = 10_000
) throws -> TokenVerifier {
    try TokenVerifier(
        configuration: configuration, logger: log.logger, now: { time.now }, clock: clock, fetchTimeout: fetchTimeout, cacheCapacity: cacheCapacity
    )
}

/// What became of a token, for comparison as one value.
func outcome(_ verifier: TokenVerifier, _ token: String) async -> Result<UserToken, TokenRejection> {
    do {
        return .success(try await verifier.verify(token))
    } catch {
        return .failure(error)
    }
}

/// A file of its own in a temporary folder, gone with the test.
final class TemporaryFile: Sendable {
    let path: String
    private let folder: URL

    init(_ text: String) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("authentication-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        path = folder.appendingPathComponent("jwks.json").path
        try write(text)
    }

    func write(_ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    }

    func remove() throws { try FileManager.default.removeItem(atPath: path) }

    deinit { try? FileManager.default.removeItem(at: folder) }
}
