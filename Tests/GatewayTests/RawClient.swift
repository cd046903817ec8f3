import NIOCore
import NIOPosix
import Synchronization

/// A TCP client that sends and sees bytes as they are.
final class RawClient: Sendable {
    struct Ended: Error {
        let text: String
    }

    private struct State {
        var text = ""
        var isClosed = false
        var waiters: [(condition: @Sendable (String) -> Bool, continuation: CheckedContinuation<String, any Error>)] = []
    }

    private final class Reader: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer

        let client: RawClient

        init(client: RawClient) {
            self.client = client
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let text = String(buffer: Self.unwrapInboundIn(data))
            self.client.update { $0.text += text }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.client.update { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }

    private let state = Mutex(State())
    private let channel = Mutex<(any Channel)?>(nil)

    static func connect(to address: SocketAddress) async throws -> RawClient {
        let client = RawClient()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Reader(client: client)) }
            }
            .connect(to: address).get()
        client.channel.withLock { $0 = channel }
        return client
    }

    private func update(_ body: (inout State) -> Void) {
        let ready = self.state.withLock { state in
            body(&state)
            var ready: [(CheckedContinuation<String, any Error>, Result<String, any Error>)] = []
            state.waiters.removeAll { waiter in
                if waiter.condition(state.text) {
                    ready.append((waiter.continuation, .success(state.text)))
                } else if state.isClosed {
                    ready.append((waiter.continuation, .failure(Ended(text: state.text))))
                } else {
                    return false
                }
                return true
            }
            return ready
        }
        for (continuation, result) in ready { continuation.resume(with: result) }
    }

    /// Whether it takes what comes; what comes meanwhile waits in the buffers on the way.
    func setReading(_ isOn: Bool) async throws {
        guard let channel = self.channel.withLock({ $0 }) else { return }
        try await channel.setOption(.autoRead, value: isOn).get()
    }

    func send(_ text: String) async throws {
        guard let channel = self.channel.withLock({ $0 }) else { return }
        try await channel.writeAndFlush(ByteBuffer(string: text))
    }

    /// All that came so far, once it meets the condition.
    func received(_ condition: @escaping @Sendable (String) -> Bool) async throws -> String {
        try await withCheckedThrowingContinuation { continuation in
            self.update { $0.waiters.append((condition, continuation)) }
        }
    }

    func received(_ part: String) async throws -> String {
        try await self.received { $0.contains(part) }
    }

    /// All that came until the server closed.
    func receivedToEnd() async -> String {
        do {
            return try await self.received { _ in false }
        } catch {
            return self.state.withLock { $0.text }
        }
    }

    func close() async {
        guard let channel = self.channel.withLock({ $0 }) else { return }
        // It may be closed by the server already.
        try? await channel.close()
    }
}

extension String {
    func count(of part: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
