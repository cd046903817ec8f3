public import Logging
import NotificationCore
public import NotificationStore
import Synchronization

/// Carries out the jobs that wait, and forgets those that ended.
public final class JobWorker: Sendable {
    /// How long an ended job can be asked about.
    private static let days = 7
    /// Between two looks for jobs, while there are none.
    private static let pause: Duration = .milliseconds(150)
    private static let smallAtOnce = 32
    private static let largeAtOnce = 4

    private let runner: JobRunner
    private let logger: Logger
    private let depth = Atomic<Int>(0)
    private let oldest = Atomic<Int>(0)

    public init(runner: JobRunner, logger: Logger) {
        self.runner = runner
        self.logger = logger
    }

    /// Jobs that are not done, up to 10,000, and the age of the oldest in milliseconds: as of the last few seconds.
    public var queue: (jobs: Int, oldestMilliseconds: Int) {
        (self.depth.load(ordering: .relaxed), self.oldest.load(ordering: .relaxed))
    }

    /// Until cancelled.
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.runSmall() }
            group.addTask { await self.runLarge() }
            group.addTask { await self.look() }
        }
        await self.runner.release()
    }

    private func runSmall() async {
        while !Task.isCancelled {
            var count = 0
            await self.attempt("small jobs") { count = try await self.runner.carryOutSmall(atMost: Self.smallAtOnce) }
            if count == Self.smallAtOnce { continue }
            do { try await Task.sleep(for: Self.pause) } catch { return }
        }
    }

    private func runLarge() async {
        while !Task.isCancelled {
            await self.attempt("large jobs") { try await self.runner.carryOutLarge(atMost: Self.largeAtOnce) }
            do { try await Task.sleep(for: Self.pause) } catch { return }
        }
    }

    private func look() async {
        var turn = 0
        while !Task.isCancelled {
            await self.attempt("queue depth") {
                let queued = try await self.runner.store.queued()
                self.depth.store(queued.jobs, ordering: .relaxed)
                self.oldest.store(Int(queued.oldest * 1000), ordering: .relaxed)
            }
            if turn % 10 == 3 { await self.attempt("jobs to forget") { try await self.runner.store.forget(days: Self.days) } }
            turn += 1
            do { try await Task.sleep(for: .seconds(2)) } catch { return }
        }
    }

    private func attempt(_ what: String, _ body: () async throws -> Void) async {
        do {
            try await body()
        } catch {
            self.logger.warning("jobs failed, tried again", metadata: ["what": "\(what)", "error": "\(error)"])
        }
    }
}
