/// A worker's part of a run: its users with their streams, and its place in the common schedule.
struct WorkerShare: Codable, Sendable {
    struct User: Codable, Sendable {
        var name: String
        var token: String
    }

    var runID: String
    var targets: [String]
    var publishTargets: [String]
    var allowRemote: Bool
    var apiKey: String
    var adapter: Adapter
    var users: [User]
    var connections: Int
    /// By the worker's clock.
    var origin: UInt64
    var phases: [SendPhase]
    var slowPercent: Int
    var sources: [String]
    var loops: Int
    var publishConnections: Int
    var outstandingLimit: Int
    var connectRate: Int
    var openingAtOnce: Int
    var connectTimeout: Double
    var requestTimeout: Double
    var settle: Double
    var verifyUsers: Int
    var inboxUsers: Int
    var process: Int
    var processes: Int

    /// Worker `process` of so many gets every so-maniest user, and the streams that are theirs.
    init(of plan: RunPlan, process: Int, processes: Int, allowRemote: Bool, origin: UInt64) {
        func part(_ number: Int) -> Int { max(1, (number + processes - 1) / processes) }
        runID = plan.runID
        targets = plan.targets.map(\.description)
        publishTargets = plan.publishTargets.map(\.description)
        self.allowRemote = allowRemote
        apiKey = plan.apiKey
        adapter = plan.adapter
        let mine = stride(from: process, to: plan.users.count, by: processes)
        users = mine.map { User(name: plan.users[$0].name, token: plan.users[$0].token) }
        connections = Self.streams(plan.connections, users: plan.users.count, process: process, processes: processes)
        self.origin = origin
        phases = plan.parts
        slowPercent = plan.slowPercent
        sources = plan.sources
        if sources.isEmpty, plan.connections > RunPlan.streamsPerSource {
            // Addresses of its own, since the kernel's ports are for each address and not for each process.
            let each = part(plan.connections) / RunPlan.streamsPerSource + 1
            sources = (0..<each).map { "127.0.0.\(2 + process * each + $0)" }
        }
        loops = plan.loops
        publishConnections = part(plan.publishConnections)
        outstandingLimit = part(plan.outstandingLimit)
        connectRate = part(plan.connectRate)
        openingAtOnce = part(plan.openingAtOnce)
        connectTimeout = plan.connectTimeout
        requestTimeout = plan.requestTimeout
        settle = plan.settle
        verifyUsers = plan.verifyUsers == 0 ? 0 : part(plan.verifyUsers)
        inboxUsers = plan.inboxUsers == 0 ? 0 : part(plan.inboxUsers)
        self.process = process
        self.processes = processes
    }

    /// How many of the first so many streams belong to the worker's users. They are its own first ones.
    static func streams(_ connections: Int, users: Int, process: Int, processes: Int) -> Int {
        stride(from: process, to: users, by: processes).reduce(0) { $0 + max(0, connections - $1 + users - 1) / users }
    }

    func plan() throws -> RunPlan {
        func resolve(_ url: String) throws(LoadtestError) -> Target { try Target(url, allowRemote: allowRemote) }
        var plan = try RunPlan(
            runID: runID, targets: targets.map(resolve), publishTargets: publishTargets.map(resolve), apiKey: apiKey,
            users: users.map { RunPlan.User(name: $0.name, token: $0.token) }, connections: connections, origin: origin
        )
        plan.adapter = adapter
        plan.phases = phases
        plan.slowPercent = slowPercent
        plan.sources = sources
        plan.loops = loops
        plan.publishConnections = publishConnections
        plan.outstandingLimit = outstandingLimit
        plan.connectRate = connectRate
        plan.openingAtOnce = openingAtOnce
        plan.connectTimeout = connectTimeout
        plan.requestTimeout = requestTimeout
        plan.settle = settle
        plan.verifyUsers = verifyUsers
        plan.inboxUsers = inboxUsers
        plan.worker = process
        plan.workers = processes
        return plan
    }
}

/// A call to all streams that one worker made, for the streams of the others.
struct RelayedCall: Codable, Sendable {
    var call: CallNumber
    /// False when it failed or was not answered: it may have been carried out all the same.
    var accepted: Bool
    /// When the answer came.
    var at: UInt64
}

/// One line from the run to a worker.
struct WorkerRequest: Codable, Sendable {
    enum Command: Codable, Sendable {
        /// The first line of all; the secret is that of a worker that listens.
        case begin(secret: String, WorkerShare)
        /// What the worker's clock says.
        case clock
        /// The first so many of the worker's streams.
        case hold(Int)
        case drop, hurry, markCaughtUpTargets, notCaughtUp, askCounts, askInboxes, counters, behind, result, stop
        case send(origin: UInt64, SendPhase)
        case expect([RelayedCall])
    }

    /// The answer carries it too: several may be under way.
    var id: Int
    var command: Command
}

/// One line back.
struct WorkerAnswer: Codable, Sendable {
    var id: Int
    var number: UInt64?
    var counters: LoopCounters?
    var calls: [RelayedCall]?
    var result: LoopResult?
    /// Why it could not be done.
    var failure: String?
}
