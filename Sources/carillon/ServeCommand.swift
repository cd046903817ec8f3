import ArgumentParser
import CoreMetrics
import Logging
import ServiceLifecycle
import UnixSignals

#if canImport(Glibc)
import Glibc
#endif

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Runs one node with any set of roles, on one port.")

    @OptionGroup var configuration: ConfigurationFile

    @Option(help: "api, edge, worker, separated by commas, or all.")
    var roles: String?

    @Option(help: "The port to listen on.")
    var port: Int?

    @Option(help: "The address to listen on.")
    var host: String?

    @Option(name: .customLong("node-name"), help: "The node's name in logs and in the stream's ready event.")
    var nodeName: String?

    @Flag(help: "Brings the schema up to date first.")
    var migrate = false

    func run() async throws {
        // Until the service group listens to them they would end a node that is starting.
        for number in [SIGHUP, SIGUSR1, SIGUSR2] { signal(number, SIG_IGN) }
        let settings = try self.configuration.settings()
        let node = try NodeConfiguration(settings: settings, roles: self.roles, port: self.port, host: self.host, nodeName: self.nodeName)
        let level = LiveLogLevel(node.logLevel)
        let logger = node.makeLogger(level: level)
        let recorded = RecordedMetrics()
        MetricsSystem.bootstrap(recorded)
        if self.migrate { try await migrateSchema(settings, logger: logger) }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: CatalogueReload(catalogue: node.catalogue, logger: logger)),
                    .init(service: LogLevelSignals(level: level, configuration: self.configuration, logger: logger)),
                    .init(service: NodeService(configuration: node, logger: logger, recorded: recorded), successTerminationBehavior: .gracefullyShutdownGroup),
                ],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }
}
