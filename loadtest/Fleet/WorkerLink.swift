import Foundation
import NIOCore
import NIOPosix

/// Lines of JSON over one connection, for both ends of it.
final class LineHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Bytes of a line: the tokens of a hundred thousand users.
    private static let limit = 256 << 20

    private let line: (Data) -> Void
    private let closed: () -> Void
    private var held = ByteBuffer()

    init(line: @escaping (Data) -> Void, closed: @escaping () -> Void) {
        self.line = line
        self.closed = closed
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        while let length = buffer.readableBytesView.firstIndex(of: 0x0a).map({ $0 - buffer.readerIndex }), let piece = buffer.readSlice(length: length) {
            buffer.moveReaderIndex(forwardBy: 1)
            held.writeImmutableBuffer(piece)
            line(Data(held.readableBytesView))
            held.clear()
        }
        held.writeBuffer(&buffer)
        if held.readableBytes > Self.limit { context.close(promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) { closed() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

extension Channel {
    /// Writes one line.
    func writeLine(_ value: some Encodable & Sendable) async throws {
        var buffer = ByteBuffer(bytes: try JSONEncoder().encode(value))
        buffer.writeInteger(UInt8(ascii: "\n"))
        try await writeAndFlush(buffer)
    }
}

/// The run's end of a connection to a worker.
final class WorkerLink: Sendable {
    /// What waits for an answer; only touched on the channel's loop.
    private final class Pending {
        var next = 0
        var promises: [Int: EventLoopPromise<WorkerAnswer>] = [:]
        var closed = false
    }

    let name: String
    /// The worker's process, if it is a child of this one.
    let pid: pid_t?
    private let channel: any Channel
    private let pending: NIOLoopBound<Pending>

    private init(name: String, pid: pid_t?, channel: any Channel, pending: NIOLoopBound<Pending>) {
        self.name = name
        self.pid = pid
        self.channel = channel
        self.pending = pending
    }

    /// - Parameter connect: makes the connection with the bootstrap it is given.
    static func start(
        name: String, pid: pid_t?, on loop: any EventLoop, connect: @Sendable (ClientBootstrap) -> EventLoopFuture<any Channel>
    ) async throws -> WorkerLink {
        let pending = try await loop.submit { NIOLoopBound(Pending(), eventLoop: loop) }.get()
        let bootstrap = ClientBootstrap(group: loop).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(
                    LineHandler(
                        line: { data in
                            do {
                                let answer = try JSONDecoder().decode(WorkerAnswer.self, from: data)
                                pending.value.promises.removeValue(forKey: answer.id)?.succeed(answer)
                            } catch { channel.close(promise: nil) }
                        },
                        closed: {
                            pending.value.closed = true
                            let promises = pending.value.promises.values
                            pending.value.promises = [:]
                            for promise in promises { promise.fail(Self.gone(name)) }
                        }
                    )
                )
            }
        }
        return WorkerLink(name: name, pid: pid, channel: try await connect(bootstrap).get(), pending: pending)
    }

    private static func gone(_ name: String) -> LoadtestError {
        .environment("\(name) is gone", "What it printed says why; a worker that listens wants the same CARILLON_LOADTEST_SECRET")
    }

    func ask(_ command: WorkerRequest.Command) async throws -> WorkerAnswer {
        let (promise, id) = try await channel.eventLoop.submit { [pending, channel, name] in
            guard !pending.value.closed else { throw Self.gone(name) }
            let id = pending.value.next
            let promise = channel.eventLoop.makePromise(of: WorkerAnswer.self)
            pending.value.next += 1
            pending.value.promises[id] = promise
            return (promise, id)
        }.get()
        do { try await channel.writeLine(WorkerRequest(id: id, command: command)) } catch {
            // The closed connection fails the promise, which says more.
            channel.close(promise: nil)
        }
        let answer = try await promise.futureResult.get()
        if let failure = answer.failure { throw LoadtestError.environment("\(name): \(failure)", "See what the worker printed") }
        return answer
    }

    func close() { channel.close(promise: nil) }
}
