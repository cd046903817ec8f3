/// What was done, and when: times on CLOCK_MONOTONIC.
struct FaultRecord: Sendable, Equatable {
    let fault: Fault
    var began: UInt64
    /// When the server accepted connections again, was continued, or the link was as before; nil while it has not.
    var recovered: UInt64?
    /// What went otherwise than planned.
    var note: String?
}

/// Carries out a plan.
actor FaultInjector {
    private let plan: FaultPlan
    private let control: ClusterControl
    /// By the edge's number.
    private let proxies: [Int: LinkProxy.Reference]
    private let tell: @Sendable (String) -> Void
    private(set) var records: [FaultRecord] = []
    /// Planned, but its turn did not come before the end.
    private(set) var skipped: [Fault] = []
    private var frozen: [String: [Int32]] = [:]
    private var stopped = false

    init(plan: FaultPlan, control: ClusterControl, proxies: [Int: LinkProxy.Reference], tell: @escaping @Sendable (String) -> Void) {
        self.plan = plan
        self.control = control
        self.proxies = proxies
        self.tell = tell
    }

    /// Faults under way at once at most, when some took longer than expected and others had to wait for them.
    private static let atOnce = 3

    /// Injects each fault at its time after `origin`, later while another one that is still under way forbids it, and returns when all is over.
    func run(origin: UInt64) async {
        let end = origin + UInt64(max(0, plan.seconds - FaultPlan.tail / 2) * 1e9)
        await withTaskGroup(of: Void.self) { group in
            var waiting = plan.faults
            while !stopped, !Task.isCancelled, !waiting.isEmpty, monotonicNow() < end {
                let now = monotonicNow()
                let due = waiting.firstIndex { origin + UInt64($0.at * 1e9) <= now && !conflicts($0) }
                if let due, records.count(where: { $0.recovered == nil }) < Self.atOnce {
                    let fault = waiting.remove(at: due)
                    let index = records.count
                    records.append(FaultRecord(fault: fault, began: now))
                    group.addTask { await self.inject(fault, index) }
                } else {
                    await pause(until: now + 20_000_000)
                }
            }
            skipped = waiting
        }
    }

    /// No more faults; those under way go on to their end.
    func stop() { stopped = true }

    /// Continues whatever is stopped and has every link pass.
    func release() async {
        for pids in frozen.values { ClusterControl.thaw(pids) }
        frozen.removeAll()
        for proxy in proxies.values { try? await proxy.set(.pass) }
    }

    private func pause(until time: UInt64) async {
        while !stopped, !Task.isCancelled {
            let now = monotonicNow()
            guard now < time else { return }
            // Woken often, so that a stop does not wait for the next fault.
            try? await Task.sleep(for: .nanoseconds(min(time - now, 200_000_000)))
        }
    }

    private func conflicts(_ fault: Fault) -> Bool {
        records.contains { $0.recovered == nil && !$0.fault.mayOverlap(fault, shape: plan.shape) }
    }

    private func inject(_ fault: Fault, _ index: Int) async {
        tell("fault: \(fault.text)")
        do {
            switch fault.kind.action {
            case .kill:
                try await control.kill(fault.target)
                await pause(until: monotonicNow() + UInt64(fault.seconds * 1e9))
                note(try await control.startAccepting(fault.target), index)
            case .stop:
                do { try await control.stop(fault.target) } catch {
                    records[index].note = "did not end by itself: \(error)"
                    try await control.kill(fault.target)
                }
                await pause(until: monotonicNow() + UInt64(fault.seconds * 1e9))
                note(try await control.startAccepting(fault.target), index)
            case .freeze:
                let pids = try await control.freeze(fault.target)
                frozen[fault.target] = pids
                await pause(until: monotonicNow() + UInt64(fault.seconds * 1e9))
                ClusterControl.thaw(pids)
                frozen[fault.target] = nil
            case .cut: try await link(fault, .cut)
            case .delay: try await link(fault, .delay(milliseconds: fault.amount))
            case .throttle: try await link(fault, .throttle(bytesPerSecond: fault.amount))
            case .silence: try await link(fault, .silence)
            }
        } catch {
            records[index].note = "\(error)"
            tell("fault: \(fault.text) failed: \(error)")
        }
        records[index].recovered = monotonicNow()
        tell("over:  \(fault.text)")
    }

    private func note(_ restarts: Int, _ index: Int) {
        if restarts > 0 { records[index].note = "ended by itself and was started again \(restarts) times" }
    }

    private func link(_ fault: Fault, _ mode: LinkProxy.Mode) async throws {
        let chosen = proxies.filter { fault.number == 0 || $0.key == fault.number }.map(\.value)
        for proxy in chosen { try await proxy.set(mode) }
        await pause(until: monotonicNow() + UInt64(fault.seconds * 1e9))
        for proxy in chosen { try await proxy.set(.pass) }
    }
}
