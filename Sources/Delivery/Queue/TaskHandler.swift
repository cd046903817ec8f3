public import NotificationStore

/// Knows what the tasks of a queue are. A further kind of task is a type that conforms to this, and a ``TaskRunner`` with it.
public protocol TaskHandler: Sendable {
    associatedtype Material: Sendable

    /// What is to be known of tasks before they are attempted: one look for all that a claim brought, answered in their order.
    func materials(for tasks: [QueuedTask]) async throws(StoreError) -> [Material]

    /// One attempt, which ends by itself.
    func attempt(_ task: QueuedTask, _ material: Material) async -> AttemptResult

    /// Where in its wait a task is tried again, 0 to 1: at random, unless some are to be tried again together.
    func jitter(_ task: QueuedTask) -> Double
}

extension TaskHandler {
    public func jitter(_ task: QueuedTask) -> Double { Double.random(in: 0...1) }
}
