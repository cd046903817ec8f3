import NIOCore

/// The only handler of a stream's channel: writes the request, parses what comes, and tells its loop.
final class StreamHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Bytes that a slow stream reads at once, four times a second.
    static let slowRead = 512

    let stream: StreamState
    private let load: LoadLoop
    private var http = HTTPResponseParser()
    private var sse = SSEParser()
    private var head: HTTPHead?
    private var context: ChannelHandlerContext?
    /// Why the stream is over, if it is known before the connection ends.
    private(set) var failure: String?
    private var ended = false

    init(stream: StreamState, load: LoadLoop) {
        self.stream = stream
        self.load = load
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        guard failure == nil else { return close() }
        var request = context.channel.allocator.buffer(capacity: 512)
        load.writeStreamRequest(stream, to: &request)
        context.writeAndFlush(wrapOutboundOut(request), promise: nil)
        if stream.slow { readSlowly(context) }
    }

    private func readSlowly(_ context: ChannelHandlerContext) {
        guard !ended else { return }
        let options = context.channel.syncOptions
        // Once sending is over, everything must come: it reads like the others.
        do { try options?.setOption(.autoRead, value: load.hurry) } catch { return fail("broken") }
        context.read()
        guard !load.hurry else { return }
        context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(250)) { self.readSlowly(context) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let now = monotonicNow()
        let buffer = unwrapInboundIn(data)
        guard failure == nil else { return }
        load.counters.receivedBytes += UInt64(buffer.readableBytes)
        do throws(LoadtestError) {
            try buffer.withUnsafeReadableBytes { bytes throws(LoadtestError) in
                try http.feed(bytes) { part throws(LoadtestError) in try take(part, at: now) }
            }
        } catch {
            stream.checker.receiveMalformed()
            if load.plan.chaos {
                stream.records.append(StreamRecord(kind: .malformed, position: StreamPosition(epoch: 0, seq: 0), at: now))
            }
            fail(error.code.rawValue)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The connection broke; the loop counts that when it is told of the end.
        fail("broken")
    }

    /// Closes the connection from this side.
    func close() {
        context?.close(promise: nil)
    }

    func fail(_ reason: String) {
        if failure == nil { failure = reason }
        context?.close(promise: nil)
    }

    private func end() {
        guard !ended else { return }
        ended = true
        context = nil
        load.streamEnded(stream, handler: self)
    }

    private func take(_ part: HTTPResponseParser.Part, at now: UInt64) throws(LoadtestError) {
        switch part {
        case .head(let head):
            self.head = head
            if head.status != 200 {
                fail("\(head.status)")
            } else if !head.isEventStream {
                fail("not an event stream")
            } else {
                load.answeredWithStream(stream, at: now)
            }
        case .body(let bytes):
            guard failure == nil else { return }
            try sse.feed(bytes) { block throws(LoadtestError) in
                if let retry = block.retry { stream.retry = retry }
                let event = try StreamEvent(block, run: load.runID, numbered: load.plan.adapter.isCarillon)
                load.received(event, on: stream, at: now)
            }
        case .end:
            context?.close(promise: nil)
        }
    }
}
