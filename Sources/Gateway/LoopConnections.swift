import NIOCore
import NIOHTTP1
import NotificationCore

/// The HTTP connections of one event loop, looked at once a second: one timer for all of them. Bound to its loop.
final class LoopConnections {
    let eventLoop: any EventLoop
    let meter: RequestMeter
    /// The time of the last look: as exact as their time-outs need it.
    private(set) var now: NIODeadline
    /// The header `Date` (RFC 9110, 5.6.7).
    private(set) var date: String
    private var handlers: [ObjectIdentifier: GatewayHandler] = [:]
    private var ticker: RepeatedTask?
    private(set) var inFlight = 0
    private var whenQuiet: [EventLoopPromise<Void>] = []
    private(set) var isDraining = false

    init(eventLoop: any EventLoop, meter: RequestMeter = RequestMeter()) {
        eventLoop.assertInEventLoop()
        self.eventLoop = eventLoop
        self.meter = meter
        self.now = eventLoop.now
        self.date = HTTPDate.format(.now())
    }

    func start() {
        self.eventLoop.assertInEventLoop()
        let bound = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.ticker = self.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in bound.value.tick() }
    }

    func tick() {
        self.eventLoop.assertInEventLoop()
        self.now = self.eventLoop.now
        self.date = HTTPDate.format(.now())
        for handler in self.handlers.values { handler.tick() }
    }

    func add(_ handler: GatewayHandler) { self.handlers[ObjectIdentifier(handler)] = handler }
    func remove(_ handler: GatewayHandler) { self.handlers[ObjectIdentifier(handler)] = nil }

    func requestStarted() { self.inFlight += 1 }

    func requestEnded() {
        self.inFlight -= 1
        if self.whenQuiet.isEmpty { return }
        // The answer is written after this.
        self.eventLoop.assumeIsolated().execute { if self.isQuiet { self.tellQuiet() } }
    }

    /// No request is in flight or on its way in, and no answer on its way out.
    private var isQuiet: Bool { self.inFlight == 0 && !self.handlers.values.contains { $0.isSending || $0.isReceiving } }

    private func tellQuiet() {
        let waiting = self.whenQuiet
        self.whenQuiet = []
        for promise in waiting { promise.succeed() }
    }

    func drain() {
        self.eventLoop.assertInEventLoop()
        self.isDraining = true
        for handler in self.handlers.values { handler.drain() }
    }

    /// Between two looks at whether all answers are read.
    private static let look: TimeAmount = .milliseconds(50)

    /// Completes once every request that has begun is answered and every answer has been taken by its client, or `grace` is over.
    func quiet(grace: TimeAmount) -> EventLoopFuture<Void> {
        self.eventLoop.assertInEventLoop()
        if self.isQuiet { return self.eventLoop.makeSucceededVoidFuture() }
        let promise = self.eventLoop.makePromise(of: Void.self)
        self.whenQuiet.append(promise)
        let bound = NIOLoopBound(self, eventLoop: self.eventLoop)
        let timer = self.eventLoop.scheduleTask(in: grace) { bound.value.tellQuiet() }
        // Nobody says when the last bytes have gone to a client that reads slowly.
        let looks = self.eventLoop.scheduleRepeatedTask(initialDelay: Self.look, delay: Self.look) { _ in
            if bound.value.isQuiet { bound.value.tellQuiet() }
        }
        promise.futureResult.whenComplete { _ in
            timer.cancel()
            looks.cancel()
        }
        return promise.futureResult
    }

    func stop() {
        self.eventLoop.assertInEventLoop()
        self.ticker?.cancel()
        self.ticker = nil
        for handler in self.handlers.values { handler.close() }
    }
}

/// The header `Date`, as `Sun, 06 Nov 1994 08:49:37 GMT`.
enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    static func format(_ time: Timestamp) -> String {
        let text = Array(Timestamp(seconds: max(0, time.seconds)).description.utf8)
        func part(_ range: Range<Int>) -> String { String(decoding: text[range], as: UTF8.self) }
        let day = self.days[Int(max(0, time.seconds) / 86_400 % 7)]
        let month = self.months[(Int(part(5..<7)) ?? 1) - 1]
        return "\(day), \(part(8..<10)) \(month) \(part(0..<4)) \(part(11..<19)) GMT"
    }
}
