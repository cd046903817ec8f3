public import Logging
import NotificationCore
public import NotificationStore
public import PostgresClient

/// What time asks of inboxes: scheduled notifications come due, others expire or reach the end of their retention; the change log gets its
/// next partitions and loses its oldest. Any number of workers may do it: each change is conditional, and only one of them makes it.
public struct Worker: Sendable {
    public struct Settings: Sendable {
        public var retentionDays = 90
        public var changeLogDays = 14

        public init() {}
    }

    /// Rows of the audit log that one statement removes.
    private static let auditPortion = 5000
    /// Seconds between two looks at what totals are to be counted of, while there is nothing.
    private static let quietest = 4

    private let housekeeping: Housekeeping
    private let audit: AuditStore
    private let retention: Retention
    private let totals: TotalsStore
    private let writer: InboxWriter
    private let settings: Settings
    private let logger: Logger

    /// - Parameter background: for what may take long.
    public init(pool: PostgresPool, background: PostgresPool, writer: InboxWriter, settings: Settings, logger: Logger) {
        self.housekeeping = Housekeeping(pool: pool)
        self.audit = AuditStore(pool: background)
        self.retention = Retention(pool: background)
        self.totals = TotalsStore(pool: background)
        self.writer = writer
        self.settings = settings
        self.logger = logger
    }

    /// Until cancelled.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keepTime() }
            group.addTask { await self.keepHouse() }
        }
    }

    /// What somebody waits for: it has no other work before it.
    private func keepTime() async {
        while !Task.isCancelled {
            await self.attempt("scheduled and expired notifications") {
                try await self.write { () async throws(StoreError) in try await self.housekeeping.timely() }
            }
            do { try await Cadence.sleep(.seconds(1)) } catch { return }
        }
    }

    private func keepHouse() async {
        var second = 0
        var nextLog = 15
        var nextTotals = 0
        var quiet = 1
        var nextDeliveries = ContinuousClock.now
        while !Task.isCancelled {
            // Mostly every second, so that it is a little each time: what it takes at once, others do without. Rarely while there is nothing.
            if second >= nextTotals {
                var counted = 0
                await self.attempt("totals") {
                    while true {
                        let step = try await self.totals.advance()
                        counted += step.counted
                        if !step.isMore || Task.isCancelled { break }
                    }
                }
                quiet = counted > 0 ? 1 : min(quiet * 2, Self.quietest)
                nextTotals = second + quiet
            }
            if ContinuousClock.now >= nextDeliveries {
                let began = ContinuousClock.now
                await self.attempt("totals of deliveries") { try await self.totals.countDeliveries() }
                // However many there are, it takes no more than a fiftieth of the time.
                nextDeliveries = .now + max(.seconds(10), (.now - began) * 50)
            }
            if second % 60 == 5 {
                await self.attempt("commits to forget") { _ = try await self.housekeeping.forgetCommits() }
            }
            if second % 600 == 10 {
                await self.attempt("retention") {
                    try await self.write { () async throws(StoreError) in try await self.housekeeping.old(days: self.settings.retentionDays) }
                    try await self.retention.run(days: self.settings.retentionDays)
                }
            }
            if second % 600 == 20 { await self.attempt("retention of the audit log") { try await self.forgetAudit() } }
            if second >= nextLog {
                // There are partitions for weeks: while somebody reads the log at length, it is tried again.
                nextLog = second + 60
                await self.attempt("change log partitions") {
                    try await self.housekeeping.keepLog(days: self.settings.changeLogDays)
                    nextLog = second + 3600
                }
            }
            second += 1
            do { try await Cadence.sleep(.seconds(1)) } catch { return }
        }
    }

    private func forgetAudit() async throws {
        let end = Timestamp(seconds: Timestamp.now().seconds - Int64(self.settings.retentionDays) * 86_400)
        while !Task.isCancelled, try await self.audit.forget(before: end, limit: Self.auditPortion) == Self.auditPortion {}
    }

    private func attempt(_ what: String, _ body: () async throws -> Void) async {
        do {
            try await body()
        } catch {
            self.logger.warning("housekeeping failed, tried again", metadata: ["what": "\(what)", "error": "\(error)"])
        }
    }

    /// In portions, until the search finds no full one: one transaction each, so that no lock is held for long.
    private func write(_ find: () async throws(StoreError) -> [InboxCommand]) async throws {
        while !Task.isCancelled {
            let commands = try await find()
            var from = 0
            while from < commands.count {
                let portion = Array(commands[from..<min(from + 100, commands.count)])
                _ = try await self.writer.write(portion)
                from += 100
            }
            if commands.count < Housekeeping.batch { return }
        }
    }
}
