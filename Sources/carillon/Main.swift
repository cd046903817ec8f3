import ArgumentParser

@main
struct Carillon: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "carillon",
        abstract: "Stores notifications and shows them at once on every open connection of every user.",
        subcommands: [Serve.self, Migrate.self, APIKey.self, Token.self, Check.self, Epoch.self, Secrets.self, Send.self, SettingsCommand.self]
    )
}

struct ConfigurationFile: ParsableArguments {
    @Option(name: .customLong("config"), help: "A YAML file with the names of the environment variables.")
    var file: String?

    func settings() throws -> Settings { try Settings(file: self.file) }
}
