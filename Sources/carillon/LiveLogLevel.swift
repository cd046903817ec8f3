import Logging
import ServiceLifecycle
import Synchronization
import UnixSignals

/// The level that is logged from, which may change while the node runs.
final class LiveLogLevel: Sendable {
    private let index: Atomic<Int>

    init(_ level: Logger.Level) {
        self.index = Atomic(Self.index(of: level))
    }

    var current: Logger.Level {
        get { Logger.Level.allCases[self.index.load(ordering: .relaxed)] }
        set { self.index.store(Self.index(of: newValue), ordering: .relaxed) }
    }

    private static func index(of level: Logger.Level) -> Int { Logger.Level.allCases.firstIndex(of: level) ?? 0 }
}

/// SIGHUP takes `CARILLON_LOG_LEVEL` anew, from the file that `CARILLON_LOG_LEVEL_FILE` or `--config` names; SIGUSR1 logs everything from
/// `debug` on until then, or until SIGUSR2, which is as SIGHUP for the level alone.
struct LogLevelSignals: Service {
    let level: LiveLogLevel
    let configuration: ConfigurationFile
    let logger: Logger

    func run() async throws {
        for await signal in await UnixSignalsSequence(trapping: .sighup, .sigusr1, .sigusr2).cancelOnGracefulShutdown() {
            switch signal {
            case .sigusr1: self.set(.debug)
            default:
                do {
                    self.set(try NodeConfiguration.logLevel(self.configuration.settings()))
                } catch {
                    self.logger.error("log level not reloaded: the old one stays", metadata: ["error": "\(error)"])
                }
            }
        }
    }

    private func set(_ level: Logger.Level) {
        guard level != self.level.current else { return }
        self.level.current = level
        // Said at whatever level is logged now.
        self.logger.log(level: max(level, .notice), "log level changed", metadata: ["log_level": "\(level)"])
    }
}
