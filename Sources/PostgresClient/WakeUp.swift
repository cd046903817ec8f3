import Glibc

/// A pipe that ends another thread's poll(2).
struct WakeUp: ~Copyable {
    /// The end to poll; -1 where the process has no descriptor left: the thread then looks again every few milliseconds.
    let descriptor: Int32
    private let end: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) == 0 {
            for end in ends {
                _ = fcntl(end, F_SETFL, O_NONBLOCK)
                _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            }
        }
        descriptor = ends[0]
        end = ends[1]
    }

    deinit {
        guard descriptor >= 0 else { return }
        close(descriptor)
        close(end)
    }

    func signal() {
        var byte: UInt8 = 1
        // It can only fail when the pipe is full, and then its other end is readable anyway.
        _ = write(end, &byte, 1)
    }

    /// Each signal is one byte, and few are sent between two calls of this.
    func clear() {
        var bytes: (UInt64, UInt64) = (0, 0)
        _ = read(descriptor, &bytes, 16)
    }
}
