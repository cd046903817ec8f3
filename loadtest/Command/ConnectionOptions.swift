import ArgumentParser
import Foundation

/// What `run` and `idle` need to reach a cluster and to hold streams there.
struct ConnectionOptions: ParsableArguments {
    @Option(name: .long, parsing: .upToNextOption, help: "Where streams connect to, round robin: http://HOST:PORT.")
    var target: [String] = []

    @Option(name: .long, parsing: .upToNextOption, help: "Where notify, reads and deletes go, round robin. Default: the targets.")
    var publishTarget: [String] = []

    @Flag(name: .long, help: "Without --target: connect to the nodes themselves instead of the load balancer.")
    var bypassProxy = false

    @Flag(name: .long, help: "Accept targets that are not loopback addresses.")
    var allowRemote = false

    @Option(name: .long, help: "An API key with the scope notify. Default: CARILLON_API_KEY.")
    var apiKey: String?

    @Option(name: .long, help: "A file with one JWT a line.")
    var tokens: String?

    @Option(name: .long, help: "Mint the users' tokens (HS256) with this secret. Default: CARILLON_JWT_SECRET, else deploy/local token.")
    var jwtSecret: String?

    @Option(name: .long, help: "Streams to hold.")
    var connections: Int

    @Option(name: .long, help: "Users that share the streams, 10 streams a user at most. Default: one a stream.")
    var users: Int?

    @Option(name: .long, help: "Event loops of this tool.")
    var loops = 2

    @Option(name: .long, help: "Streams opened a second.")
    var connectRate = 2_000

    @Option(name: .long, help: "Streams that connect or wait for their ready at the same time.")
    var openingAtOnce = 512

    @Option(name: .long, help: "Seconds until every stream must be ready.")
    var connectTimeout: Double = 60

    @Option(name: .long, help: "Seconds that a request may take.")
    var requestTimeout = Self.defaultRequestTimeout

    static let defaultRequestTimeout = 10.0

    @Option(name: .long, help: "Keep-alive connections for requests.")
    var publishConnections = 128

    @Option(name: .long, help: "The deploy/local program. Default: CARILLON_LOCAL, else deploy/local in the current folder.")
    var local: String?

    @Option(name: .long, help: "The state folder of the cluster that deploy/local runs. Default: CARILLON_LOCAL_STATE, else the program's own.")
    var state: String?

    var script: LocalScript { LocalScript(path: local, state: state) }

    /// The plan, with tokens; `seconds` is how long they must be valid.
    func plan(seconds: Double, adapter: Adapter = .carillon, processes: Int = 1, environment known: ClusterEnvironment? = nil) throws -> RunPlan {
        guard connections > 0, users.map({ $0 > 0 }) ?? true, (1...64).contains(loops), connectRate > 0, openingAtOnce > 0, publishConnections > 0, connectTimeout > 0,
            requestTimeout > 0
        else { throw LoadtestError.usage("A number is zero, negative or too large", "Give positive numbers, and at most 64 loops") }
        try FileDescriptorLimit.require((connections + publishConnections) / max(1, processes))
        guard adapter.isCarillon else { return try rivalPlan(adapter) }
        let complete = !target.isEmpty && apiKey != nil && (tokens != nil || jwtSecret != nil)
        let environment = try known ?? (complete ? ClusterEnvironment(values: ProcessInfo.processInfo.environment) : ClusterEnvironment.current(script: script))
        let targets = try urls(target, environment, nodes: "CARILLON_EDGE_URLS")
        let publishTargets = try urls(publishTarget.isEmpty ? target : publishTarget, environment, nodes: "CARILLON_API_URLS")
        guard let key = apiKey ?? environment["CARILLON_API_KEY"] else {
            throw LoadtestError.usage("There is no API key", "Give --api-key, set CARILLON_API_KEY, or run from the folder that holds deploy/local")
        }
        let run = String(UInt64.random(in: 0...(.max)), radix: 36)
        var plan = try RunPlan(
            runID: run, targets: targets, publishTargets: publishTargets, apiKey: key,
            users: makeUsers(run: run, environment: environment, seconds: Int(seconds) + 3_600), connections: connections
        )
        pace(&plan)
        return plan
    }

    private func pace(_ plan: inout RunPlan) {
        plan.loops = loops
        plan.connectRate = connectRate
        plan.openingAtOnce = openingAtOnce
        plan.connectTimeout = connectTimeout
        plan.requestTimeout = requestTimeout
        plan.publishConnections = publishConnections
    }

    /// Rivals know no users, so that there are no tokens and no key.
    private func rivalPlan(_ adapter: Adapter) throws -> RunPlan {
        guard !target.isEmpty else { throw LoadtestError.usage("There is no target", "Give --target; loadtest/rivals/\(adapter) says which") }
        let run = String(UInt64.random(in: 0...(.max)), radix: 36)
        let resolve = { (url: String) throws(LoadtestError) in try Target(url.hasSuffix("/") ? String(url.dropLast()) : url, allowRemote: allowRemote) }
        var plan = try RunPlan(
            runID: run, targets: target.map(resolve), publishTargets: (publishTarget.isEmpty ? target : publishTarget).map(resolve), apiKey: "",
            users: (0..<(users ?? connections)).map { RunPlan.User(name: "lt-\(run)-\($0)", token: "") }, connections: connections
        )
        plan.adapter = adapter
        pace(&plan)
        return plan
    }

    private func urls(_ given: [String], _ environment: ClusterEnvironment, nodes: String) throws -> [Target] {
        var urls = given
        if urls.isEmpty {
            let balancer = environment.list("CARILLON_URL")
            let direct = environment.list(nodes)
            urls = bypassProxy || balancer.isEmpty ? direct : balancer
        }
        guard !urls.isEmpty else {
            throw LoadtestError.usage("There is no target", "Give --target, set CARILLON_URL, or run from the folder that holds deploy/local")
        }
        return try urls.map { try Target($0.hasSuffix("/") ? String($0.dropLast()) : $0, allowRemote: allowRemote) }
    }

    private func makeUsers(run: String, environment: ClusterEnvironment, seconds: Int) throws -> [RunPlan.User] {
        let count = users ?? connections
        // The run's id in the names gives each run empty inboxes.
        let prefix = "lt-\(run)-"
        if let tokens {
            guard let text = try? String(contentsOfFile: tokens, encoding: .utf8) else {
                throw LoadtestError.usage("The file '\(tokens)' cannot be read", "Give a file with one JWT a line")
            }
            return try TokenMint.users(fromLines: text, count: count)
        }
        if let secret = jwtSecret ?? environment["CARILLON_JWT_SECRET"] {
            return (0..<count).map { index in
                let name = prefix + String(index)
                let token = TokenMint.mint(
                    user: name, secret: secret, issuer: environment["CARILLON_JWT_ISSUER"], audience: environment["CARILLON_JWT_AUDIENCE"],
                    seconds: seconds
                )
                return RunPlan.User(name: name, token: token)
            }
        }
        guard script.exists else {
            throw LoadtestError.usage(
                "There are no tokens", "Give --tokens or --jwt-secret, set CARILLON_JWT_SECRET, or run from the folder that holds deploy/local"
            )
        }
        let arguments = ["token", prefix, "--count", String(count), "--ttl", "\(seconds / 3_600 + 1)h"]
        return try TokenMint.users(fromLines: script.output(of: arguments, seconds: 120), count: count)
    }
}
