import Glibc

/// A thread of the operating system that runs one closure. libpq and libcurl wait in poll(2), for which the cooperative pool has no thread to give away.
package struct OSThread: ~Copyable, Sendable {
    private let thread: pthread_t

    /// nil when the system has no thread left.
    package init?(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) {
                self.body = body
            }
        }
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box(body))
        let failure = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, box.toOpaque())
        guard failure == 0 else {
            box.release()
            return nil
        }
        self.thread = thread
    }

    /// Waits for its end; only for one that is about to end.
    package consuming func join() {
        pthread_join(thread, nil)
    }

    /// Lets it end by itself.
    package consuming func detach() {
        pthread_detach(thread)
    }
}
