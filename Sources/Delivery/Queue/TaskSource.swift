public import NotificationCore
public import NotificationStore

/// What brings a runner its tasks. Wherever they come from, Postgres keeps them, and says who has which.
public protocol TaskSource: Sendable {
    /// Those that can be had now. It does not wait for any.
    func claim(_ claim: TaskStore.Claim) async throws(StoreError) -> [QueuedTask]

    /// There may be tasks. From any thread; it does not block.
    func poke()

    /// What came of it is written down, or left to others. Its runner waits for this.
    func settle(_ task: NotificationID) async

    /// They are under way still: nobody else is to have them for a lease.
    func extend(_ tasks: [NotificationID]) async

    /// Until cancelled.
    ///
    /// - Parameter wake: called when there is something to claim.
    func run(_ wake: @escaping @Sendable () -> Void) async

    /// Nothing more is claimed. It does not block.
    func drain()

    /// Nothing is under way any more.
    func close() async
}

/// Claims from Postgres itself.
struct PostgresTasks: TaskSource {
    let store: TaskStore

    func claim(_ claim: TaskStore.Claim) async throws(StoreError) -> [QueuedTask] { try await self.store.claim(claim) }
    func poke() {}
    func settle(_ task: NotificationID) {}
    func extend(_ tasks: [NotificationID]) async {}
    func run(_ wake: @escaping @Sendable () -> Void) async {}
    func drain() {}
    func close() async {}
}
