import NIOCore

/// The connection of a stream: sends the request, parses what comes, and tells its loop.
final class StreamConnection: Connection {
    /// Bytes that a slow stream reads at once, four times a second.
    private static let slowRead = 512
    /// Its receive buffer: a small window, so that slowness is felt by the server and not by this machine's memory.
    private static let slowWindow: Int32 = 4_096

    let stream: StreamState
    private let load: LoadLoop
    private var http = HTTPResponseParser()
    private var sse = SSEParser()

    init(stream: StreamState, load: LoadLoop) {
        self.stream = stream
        self.load = load
        super.init(loop: load.eventLoop)
        readsByItself = stream.slow
    }

    func connect(to target: Target, from source: SocketAddress?) {
        connect(to: target.address, from: source, receiveBuffer: stream.slow ? Self.slowWindow : nil)
    }

    override func opened() {
        load.streamRequest(stream).withUnsafeReadableBytes(send)
        if stream.slow { readSlowly() }
    }

    /// Once sending is over, everything must come: it reads like the others.
    private func readSlowly() {
        guard isOpen else { return }
        guard !load.hurry else { return readAll() }
        readOnce(Self.slowRead)
        loop.assumeIsolated().scheduleTask(in: .milliseconds(250)) { self.readSlowly() }
    }

    override func received(_ bytes: UnsafeRawBufferPointer, at now: UInt64) {
        guard failure == nil else { return }
        load.counters.receivedBytes += UInt64(bytes.count)
        do throws(LoadtestError) {
            try http.feed(bytes) { part throws(LoadtestError) in try take(part, at: now) }
        } catch {
            stream.checker.receiveMalformed()
            if load.plan.chaos {
                stream.records.append(StreamRecord(kind: .malformed, position: StreamPosition(epoch: 0, seq: 0), at: now))
            }
            fail(error.code.rawValue)
        }
    }

    override func ended() {
        load.streamEnded(stream, connection: self)
    }

    private func take(_ part: HTTPResponseParser.Part, at now: UInt64) throws(LoadtestError) {
        switch part {
        case .head(let head):
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
            close()
        }
    }
}
