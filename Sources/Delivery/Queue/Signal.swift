/// Wakes one who waits; what comes while nobody does is remembered once.
struct Signal: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() { (self.stream, self.continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

    func give() { self.continuation.yield() }

    /// False when cancelled.
    func wait() async -> Bool {
        for await _ in self.stream { return true }
        return false
    }
}
