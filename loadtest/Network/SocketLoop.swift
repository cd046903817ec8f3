import CEpoll
import Dispatch
import Foundation
import HeapModule
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// One thread with its connections and timers: an event loop of swift-nio's kind, so that its futures work here, without its channels.
///
/// A generator must cost little beside what it measures. A channel and its pipeline take a third of an event and most of a connection's memory; here
/// every read goes into the one buffer of the loop and is parsed where it lies.
///
/// `@unchecked Sendable`: other threads touch `inbox`, which has a lock, and the descriptors, which do not change; all else belongs to the loop's own
/// thread, and every way in from outside leads through `inbox`.
final class SocketLoop: EventLoop, @unchecked Sendable {
    /// Sockets served before timers and tasks have their turn: what is due is late by some of them at most.
    private static let batch = 128
    /// Bytes of one read.
    private static let readLimit = 64 * 1024
    private static let current = ThreadSpecificVariable<SocketLoop>()

    private struct Inbox {
        var tasks: [@Sendable () -> Void] = []
        /// Whether the thread waits, or is about to: then it must be woken.
        var isWaiting = false
        var isOver = false
    }

    private struct Timer: Comparable {
        let deadline: UInt64
        let number: UInt64

        static func < (one: Timer, other: Timer) -> Bool { (one.deadline, one.number) < (other.deadline, other.number) }
    }

    private let poll: Int32
    private let wakeup: Int32
    private let inbox = NIOLockedValueBox(Inbox())

    // The thread's own.
    private let ready = UnsafeMutablePointer<epoll_event>.allocate(capacity: batch)
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: readLimit, alignment: 16)
    /// By descriptor. Those of one that was closed in this turn, or of `wakeup`, find nil here.
    private var connections: [Connection?] = []
    private var timers = Heap<Timer>()
    private var due: [UInt64: (fire: () -> Void, fail: (any Error) -> Void)] = [:]
    private var timersSet: UInt64 = 0
    private var stopped: (() -> Void)?

    /// Starts the thread. It runs until ``shutdownGracefully(queue:_:)``.
    static func start(name: String) throws(LoadtestError) -> SocketLoop {
        let loop = try SocketLoop()
        Thread {
            Thread.current.name = name
            loop.run()
        }.start()
        return loop
    }

    private init() throws(LoadtestError) {
        poll = epoll_create1(Int32(EPOLL_CLOEXEC))
        wakeup = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        // Edge-triggered: each write to it is told once, and nobody has to read it.
        var event = epoll_event(events: EPOLLIN.rawValue | EPOLLET.rawValue, data: epoll_data_t(fd: wakeup))
        guard poll >= 0, wakeup >= 0, epoll_ctl(poll, EPOLL_CTL_ADD, wakeup, &event) == 0 else {
            throw .environment("No event loop can be made (\(String(cString: strerror(errno))))", "Raise the limit of open files")
        }
    }

    deinit {
        Foundation.close(poll)
        Foundation.close(wakeup)
        ready.deallocate()
        buffer.deallocate()
    }

    private func run() {
        Self.current.currentValue = self
        while stopped == nil {
            serve()
            runTasks()
            fireTimers()
        }
        for (_, timer) in due { timer.fail(EventLoopError.shutdown) }
        due = [:]
        runTasks()
        inbox.withLockedValue { $0.isOver = true }
        stopped?()
    }

    private func runTasks() {
        let tasks = inbox.withLockedValue { inbox in
            defer { inbox.tasks.removeAll() }
            return inbox.tasks
        }
        for task in tasks { task() }
    }

    private func fireTimers() {
        while let first = timers.min, first.deadline <= monotonicNow() {
            timers.removeMin()
            due.removeValue(forKey: first.number)?.fire()
        }
    }

    /// Waits for sockets, until a timer is due or a task comes, and serves those that are ready.
    private func serve() {
        let waits = inbox.withLockedValue { inbox in
            inbox.isWaiting = inbox.tasks.isEmpty
            return inbox.isWaiting
        }
        let now = monotonicNow()
        let rest = waits ? (timers.min?.deadline).map { $0 - min(now, $0) } ?? 3_600_000_000_000 : 0
        var timeout = timespec(tv_sec: Int(rest / 1_000_000_000), tv_nsec: Int(rest % 1_000_000_000))
        let count = epoll_pwait2(poll, ready, Int32(Self.batch), &timeout, nil)
        inbox.withLockedValue { $0.isWaiting = false }
        precondition(count >= 0 || errno == EINTR, "epoll_pwait2: \(String(cString: strerror(errno)))")
        for index in 0..<max(0, Int(count)) {
            let event = ready[index]
            guard Int(event.data.fd) < connections.count, let connection = connections[Int(event.data.fd)] else { continue }
            connection.isReady(event.events, buffer)
        }
    }

    // MARK: Connections

    /// Watches a connection's descriptor until it is closed. Edge-triggered: whoever is told reads until nothing is left.
    func watch(_ connection: Connection, _ descriptor: Int32) -> Bool {
        assertInEventLoop()
        var event = epoll_event(
            events: EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue, data: epoll_data_t(fd: descriptor)
        )
        guard epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) == 0 else { return false }
        while connections.count <= Int(descriptor) { connections.append(nil) }
        connections[Int(descriptor)] = connection
        return true
    }

    /// For reading outside of a turn's sockets.
    func withBuffer(_ body: (UnsafeMutableRawBufferPointer) -> Void) {
        assertInEventLoop()
        body(buffer)
    }

    /// Closes it; nothing more is told of it.
    func close(_ descriptor: Int32) {
        assertInEventLoop()
        if Int(descriptor) < connections.count { connections[Int(descriptor)] = nil }
        Foundation.close(descriptor)
    }

    // MARK: EventLoop

    var inEventLoop: Bool { Self.current.currentValue === self }

    func execute(_ task: @escaping @Sendable () -> Void) {
        let wakes = inbox.withLockedValue { inbox in
            guard !inbox.isOver else { return false }
            inbox.tasks.append(task)
            defer { inbox.isWaiting = false }
            return inbox.isWaiting
        }
        if wakes { eventfd_write(wakeup, 1) }
    }

    @discardableResult
    func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        let promise = makePromise(of: T.self)
        let number = NIOLockedValueBox<UInt64?>(nil)
        let set: @Sendable () -> Void = {
            let own = self.timersSet
            self.timersSet += 1
            number.withLockedValue { $0 = own }
            self.timers.insert(Timer(deadline: deadline.uptimeNanoseconds, number: own))
            self.due[own] = ({ promise.assumeIsolated().completeWith(Result(catching: task)) }, promise.fail)
        }
        if inEventLoop { set() } else { execute(set) }
        return Scheduled(promise: promise) {
            self.execute { if let own = number.withLockedValue({ $0 }) { self.due[own] = nil } }
        }
    }

    @discardableResult
    func scheduleTask<T>(in delay: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        scheduleTask(deadline: .now() + delay, task)
    }

    /// Ends the thread after the tasks that are waiting; timers that are left fail.
    func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        execute { self.stopped = { queue.async { callback(nil) } } }
    }
}
