public import Logging
import NotificationCore
public import NotificationStore
import Synchronization

/// Carries out the jobs that wait, and forgets those that ended.
public final class JobWorker: Sendable {
    /// How long an ended job can be asked about.
    private static let days = 7
    /// Between two looks for jobs that nobody has told of.
    private static let pause: Duration = .seconds(2)
    private static let smallAtOnce = 32
    private static let largeAtOnce = 4

    private let logger: Logger
    private let small = Signal()
    private let large = Signal()
    private let depth = Atomic<Int>(0)
    private let oldest = Atomic<Int>(0)

    public init(logger: Logger) {
        self.logger = logger
    }

    /// There may be jobs. From any thread; it does not block.
    public func poke() {
        self.small.give()
        self.large.give()
    }

    /// Jobs that are not done, up to 10,000, and the age of the oldest in milliseconds: as of the last few seconds.
    public var queue: (jobs: Int, oldestMilliseconds: Int) {
        (self.depth.load(ordering: .relaxed), self.oldest.load(ordering: .relaxed))
    }

    /// Until cancelled.
    public func run(_ runner: JobRunner) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                while await self.small.wait() {
                    await self.attempt("small jobs") { while try await runner.carryOutSmall(atMost: Self.smallAtOnce) == Self.smallAtOnce, !Task.isCancelled {} }
                }
            }
            group.addTask {
                while await self.large.wait() { await self.attempt("large jobs") { try await runner.carryOutLarge(atMost: Self.largeAtOnce) } }
            }
            group.addTask { await self.look(runner.store) }
            // Also what was lost on its way, and what another node left behind.
            while !Task.isCancelled {
                self.poke()
                do { try await Cadence.sleep(Self.pause) } catch { break }
            }
        }
        await runner.release()
    }

    private func look(_ store: JobStore) async {
        var turn = 0
        while !Task.isCancelled {
            await self.attempt("queue depth") {
                let queued = try await store.queued()
                self.depth.store(queued.jobs, ordering: .relaxed)
                self.oldest.store(Int(queued.oldest * 1000), ordering: .relaxed)
            }
            if turn % 10 == 3 { await self.attempt("jobs to forget") { try await store.forget(days: Self.days) } }
            turn += 1
            do { try await Cadence.sleep(.seconds(2)) } catch { return }
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
