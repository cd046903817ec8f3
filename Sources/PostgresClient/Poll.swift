import Glibc

/// poll(2) on a connection's socket and on its wake-up.
enum Poll {
    struct Events {
        var readable = false
        var writable = false
        var woken = false
    }

    /// Returns after the first event, at the deadline, or on a signal. A descriptor below 0 is not looked at.
    static func wait(socket: Int32, read: Bool, write: Bool, wakeUp: Int32, until deadline: ContinuousClock.Instant?) -> Events {
        var descriptors = [
            pollfd(fd: socket, events: Int16((read ? POLLIN : 0) | (write ? POLLOUT : 0)), revents: 0),
            pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0),
        ]
        var timeout: Int32 = -1
        if let deadline { timeout = milliseconds(ContinuousClock.now.duration(to: deadline)) }
        // Without a wake-up only a look now and then notices new work.
        if wakeUp < 0 { timeout = timeout < 0 ? 10 : min(timeout, 10) }
        guard poll(&descriptors, 2, timeout) > 0 else { return Events() }
        let failed = descriptors[0].revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0
        return Events(
            readable: failed || descriptors[0].revents & Int16(POLLIN) != 0,
            writable: failed || descriptors[0].revents & Int16(POLLOUT) != 0,
            woken: descriptors[1].revents != 0)
    }

    /// Rounded up, or the last millisecond before a deadline would be a busy loop.
    private static func milliseconds(_ duration: Duration) -> Int32 {
        let (seconds, attoseconds) = duration.components
        if seconds < 0 || attoseconds < 0 { return 0 }
        return Int32(clamping: seconds * 1_000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
