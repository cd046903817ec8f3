import Logging
import NotificationCore
import ServiceLifecycle
import Synchronization
import UnixSignals

/// The catalogue as it is now: read again at SIGHUP. Requests that are under way keep the one that they began with.
final class LiveCatalogue: Sendable {
    private struct State {
        var catalogue: Catalogue
        var reloads = 0
        var failures = 0
    }

    private let path: String?
    private let state: Mutex<State>

    /// - Parameter path: nil for the shipped example.
    init(path: String?) throws {
        self.path = path
        self.state = Mutex(State(catalogue: try CatalogueFile.load(path)))
    }

    var current: Catalogue { self.state.withLock { $0.catalogue } }

    /// Since the start: files taken, and files refused.
    var counters: (reloads: Int, failures: Int) { self.state.withLock { ($0.reloads, $0.failures) } }

    /// Takes the file as it is now. One that is wrong changes nothing but a counter and the log.
    func reload(logger: Logger) {
        do {
            let catalogue = try CatalogueFile.load(self.path)
            self.state.withLock {
                $0.catalogue = catalogue
                $0.reloads += 1
            }
            logger.info("catalogue reloaded", metadata: ["catalogue": "\(catalogue.summary)"])
        } catch {
            self.state.withLock { $0.failures += 1 }
            let lines = (error as? CatalogueError)?.lines ?? ["\(error)"]
            logger.error("catalogue not reloaded: the old one stays", metadata: ["errors": "\(lines.joined(separator: "\n"))"])
        }
    }
}

extension Catalogue {
    /// What is in it, in a line.
    var summary: String {
        let locales = ["default"] + self.locales.map(\.description)
        return "\(self.types.count) types, \(self.eventCount) events, locales \(locales.joined(separator: ", "))"
    }
}

/// Reloads the catalogue at each SIGHUP.
struct CatalogueReload: Service {
    let catalogue: LiveCatalogue
    let logger: Logger

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() {
            self.catalogue.reload(logger: self.logger)
        }
    }
}
