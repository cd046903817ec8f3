import Foundation

/// What one run does; nothing in it changes while it runs.
struct RunPlan: Sendable {
    struct User: Sendable {
        let name: String
        let token: String
        /// The name as a JSON string, with its quotes.
        let json: String

        init(name: String, token: String) {
            self.name = name
            self.token = token
            json = jsonString(name)
        }
    }

    /// Connections of one user, and thereby streams: the service's default bound.
    static let streamsPerUser = 10
    /// Streams that one source address carries; the kernel has some 28,000 ports for each.
    static let streamsPerSource = 20_000

    let runID: String
    let targets: [Target]
    let publishTargets: [Target]
    let apiKey: String
    let users: [User]
    let connections: Int
    /// Notifications a second.
    var rate: Double = 0
    /// Seconds that are measured, after `warmup` seconds that are not.
    var duration: Double = 0
    var warmup: Double = 0
    /// Users of one call.
    var group = 1
    /// Inbox operations per call.
    var mix: Double = 0
    var publish = Publish.notify
    var adapter = Adapter.carillon
    /// What is sent, one after the other; empty: one part with the settings above.
    var phases: [SendPhase] = []
    /// Stop after the first part that did not hold, and say which did.
    var ramp: RampLimit?
    /// Seconds after the start of sending at which every stream is cut.
    var stormAt: Double?
    /// Streams of a hundred that read slowly.
    var slowPercent = 0
    /// Addresses that streams come from, round robin; empty: the kernel's choice, as long as its ports last.
    var sources: [String] = []
    /// Nodes behind the targets, whose health and version belong into the report.
    var nodes: [Target] = []
    /// Processes of the servers to look at each second.
    var processes: [WatchedProcess] = []
    var loops = 2
    /// Keep-alive connections for requests, of all loops together.
    var publishConnections = 128
    /// Requests that are due and not answered, of all loops together.
    var outstandingLimit = 20_000
    /// Streams opened a second.
    var connectRate = 2_000
    /// Streams that connect or wait for `ready` at the same time, of all loops together.
    var openingAtOnce = 512
    /// Seconds until every stream must be ready.
    var connectTimeout: Double = 60
    /// Seconds that a request, or a stream's `ready`, may take.
    var requestTimeout: Double = 10
    /// Seconds without progress after which nothing more is expected.
    var settle: Double = 5
    /// Users whose count is compared with the API's at the end.
    var verifyUsers = 1_000
    /// Users whose whole inbox is read at the end and compared with what their first stream showed.
    var inboxUsers = 0
    /// Which process of how many this plan is for.
    var worker = 0
    var workers = 1
    /// Whether everything asked and shown is kept for the oracle, and streams come back for ever, after exactly the server's `retry:`.
    var chaos = false
    let userIndex: [String: Int]
    /// Due times in the notifications count from here, so that they stay small enough for a JSON double.
    let origin: UInt64

    init(
        runID: String, targets: [Target], publishTargets: [Target], apiKey: String, users: [User], connections: Int, origin: UInt64 = monotonicNow()
    ) throws(LoadtestError) {
        guard connections > 0, !targets.isEmpty, !publishTargets.isEmpty else {
            throw .usage("There is nothing to connect to", "Give at least one connection and one target")
        }
        guard !users.isEmpty, users.count <= connections else {
            throw .usage("\(users.count) users cannot share \(connections) connections", "Give 1 to \(connections) users")
        }
        guard connections <= users.count * Self.streamsPerUser else {
            throw .usage(
                "\(connections) connections for \(users.count) users are more than \(Self.streamsPerUser) a user",
                "Give at least \((connections + Self.streamsPerUser - 1) / Self.streamsPerUser) users"
            )
        }
        self.runID = runID
        self.targets = targets
        self.publishTargets = publishTargets
        self.apiKey = apiKey
        self.users = users
        self.connections = connections
        self.origin = origin
        userIndex = Dictionary(users.enumerated().map { ($1.name, $0) }) { first, _ in first }
        guard userIndex.count == users.count else { throw .usage("The same user stands twice in the tokens", "Give each user one token") }
    }

    /// Everything that belongs to a user happens on one loop.
    func loop(ofUser user: Int) -> Int { user % loops }
    func user(ofStream stream: Int) -> Int { stream % users.count }

    var parts: [SendPhase] {
        phases.isEmpty ? [SendPhase(name: "steady", rate: rate, duration: duration, warmup: warmup, publish: publish, group: group, mix: mix)] : phases
    }

    /// Every hundred streams hold the share of slow ones, spread evenly over users and loops.
    func isSlow(stream: Int) -> Bool { (stream * 37) % 100 < slowPercent }

    /// The address to bind a stream to: one of those given, or the next one when one address has too few ports.
    func source(ofStream stream: Int) -> String? {
        if !sources.isEmpty { return sources[stream % sources.count] }
        return connections > Self.streamsPerSource ? "127.0.0.\(1 + stream / Self.streamsPerSource)" : nil
    }
}

/// A JSON string with its quotes (RFC 8259 section 7).
func jsonString(_ text: String) -> String {
    var json = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": json += "\\\""
        case "\\": json += "\\\\"
        case let control where control.value < 0x20:
            let digits = String(control.value, radix: 16)
            json += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: json.unicodeScalars.append(scalar)
        }
    }
    return json + "\""
}
