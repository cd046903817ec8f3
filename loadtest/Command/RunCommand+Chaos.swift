import ArgumentParser
import Foundation

extension RunCommand {
    /// Requests that wait for a frozen node hold their connections meanwhile; the schedule must go on beside them.
    private static let connectionsAtMost = 4_000
    /// Seconds that a request may take, unless the command line says otherwise: less than a node is frozen for.
    private static let patience = 3.0

    func runChaos(mix: Double) async throws {
        guard connection.target.isEmpty, connection.publishTarget.isEmpty, connection.tokens == nil, connection.jwtSecret == nil else {
            throw LoadtestError.usage("chaos breaks a cluster of deploy/local and takes no targets and tokens", "Name it with --state")
        }
        let script = connection.script
        guard script.exists else {
            throw LoadtestError.usage("There is no program '\(script.path)'", "Give --local, or run from the folder that holds deploy/local")
        }
        let control = try await ClusterControl.find(script)
        var plan = try connection.plan(seconds: duration + warmup + 600, environment: control.environment)
        guard group * plan.loops <= plan.users.count else {
            throw LoadtestError.usage("A group of \(group) is too large for \(plan.users.count) users", "Give a smaller --group or more --users")
        }
        plan.chaos = true
        plan.rate = rate
        plan.duration = duration
        plan.warmup = warmup
        plan.group = group
        plan.mix = mix
        plan.outstandingLimit = outstanding
        plan.settle = settle
        plan.verifyUsers = plan.users.count
        if plan.requestTimeout == ConnectionOptions.defaultRequestTimeout { plan.requestTimeout = Self.patience }
        let inFlight = rate / Double(group) * (1 + mix) * plan.requestTimeout
        plan.publishConnections = max(plan.publishConnections, min(Self.connectionsAtMost, Int(inFlight)))
        try FileDescriptorLimit.require(plan.connections + plan.publishConnections + 256)

        let writer = ProgressWriter()
        let chaos = ChaosRun(
            plan: plan, control: control, seed: seed ?? UInt64.random(in: 0...UInt64(UInt32.max)), progress: { writer.write($0) }, tell: { writer.say($0) }
        )
        let (interrupts, interrupt) = AsyncStream.makeStream(of: Void.self)
        let sources = [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { interrupt.yield() }
            source.resume()
            return source
        }
        defer { for source in sources { source.cancel() } }
        let report = try await chaos.run(interrupts: interrupts)
        writer.finish()
        if let html { try Self.write(Data(report.page.utf8), to: html) }
        try write(report.text, try report.json)
        if !report.ok { throw ExitCode(1) }
    }
}
