import Foundation

/// A program that is run to its end, with its standard output read meanwhile. Blocks the thread that calls it.
///
/// Foundation's `Process` is not used: started from a thread of a dispatch queue, its children inherit that thread's blocked signals, so that a
/// Redis started this way never hears a SIGTERM; and it has been seen to crash in `run()`.
enum Subprocess {
    private static let starting = NSLock()

    /// - Parameters:
    ///   - path: absolute, or relative to the working directory; a bare name is looked for in `PATH`.
    ///   - environment: all of it, or nil for this process's own.
    ///   - seconds: until it gets a SIGTERM; nil for no limit.
    ///   - output: called with each piece of what it prints.
    /// - Returns: Its exit status, or 128 and the signal that ended it.
    static func run(
        _ path: String, _ arguments: [String], environment: [String: String]? = nil, seconds: Double? = nil,
        output: (UnsafeRawBufferPointer) throws(LoadtestError) -> Void
    ) throws(LoadtestError) -> Int32 {
        var ends: [Int32] = [-1, -1]
        // Another child that is started before both ends are marked would hold this one's pipe open.
        let (pid, error) = starting.withLock { () -> (pid_t, Int32) in
            guard pipe(&ends) == 0 else { return (0, errno) }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            return spawn(path, [path] + arguments, environment, output: ends[1])
        }
        defer { if ends[0] >= 0 { close(ends[0]) } }
        if ends[1] >= 0 { close(ends[1]) }
        guard error == 0 else { throw failure(path, error) }

        let watchdog = DispatchWorkItem { kill(pid, SIGTERM) }
        if let seconds { DispatchQueue.global().asyncAfter(deadline: .now() + seconds, execute: watchdog) }
        var problem: LoadtestError?
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 1)
        defer { buffer.deallocate() }
        while true {
            let count = read(ends[0], buffer.baseAddress, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            // After an error the rest is read all the same, so that the child can end.
            guard problem == nil else { continue }
            do throws(LoadtestError) { try output(UnsafeRawBufferPointer(rebasing: buffer[..<count])) } catch { problem = error }
        }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        // Before the pid can be another's.
        watchdog.cancel()
        if let problem { throw problem }
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    /// Starts a program with one end of a socket as its standard input, and what it prints on this one's standard error.
    ///
    /// - Returns: Its pid, to be given to ``reap(_:patience:)``, and the other end.
    static func startConnected(_ path: String, _ arguments: [String]) throws(LoadtestError) -> (pid: pid_t, socket: Int32) {
        var ends: [Int32] = [-1, -1]
        let (pid, error) = starting.withLock { () -> (pid_t, Int32) in
            #if os(Linux)
                let stream = Int32(SOCK_STREAM.rawValue)
            #else
                let stream = SOCK_STREAM
            #endif
            guard socketpair(AF_UNIX, stream, 0, &ends) == 0 else { return (0, errno) }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            return spawn(path, [path] + arguments, nil, input: ends[1], output: STDERR_FILENO)
        }
        if ends[1] >= 0 { close(ends[1]) }
        guard error == 0 else {
            if ends[0] >= 0 { close(ends[0]) }
            throw failure(path, error)
        }
        return (pid, ends[0])
    }

    /// Waits for a process that was started and told to end; after so many seconds it is killed.
    static func reap(_ pid: pid_t, patience: Double) async {
        let deadline = monotonicNow() + UInt64(patience * 1e9)
        var status: Int32 = 0
        while waitpid(pid, &status, WNOHANG) == 0 {
            if monotonicNow() > deadline { kill(pid, SIGKILL) }
            // Cancelled or not, it has to end.
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    private static func failure(_ path: String, _ code: Int32) -> LoadtestError {
        .environment("'\(path)' did not start (\(String(cString: strerror(code))))", "Check that it is installed and can be run")
    }

    private static func spawn(_ path: String, _ arguments: [String], _ environment: [String: String]?, input: Int32? = nil, output: Int32) -> (pid_t, Int32) {
        #if canImport(Darwin)
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #else
            var actions = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        if let input { posix_spawn_file_actions_adddup2(&actions, input, 0) } else { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        #if os(Linux)
            // Nothing else is the child's: a listening socket that it held would go on listening.
            for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? [] {
                if let descriptor = Int32(name), descriptor > STDERR_FILENO { posix_spawn_file_actions_addclose(&actions, descriptor) }
            }
        #endif
        // No signal blocked, none ignored.
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        let words = arguments.map { strdup($0) } + [nil]
        let variables = (environment ?? ProcessInfo.processInfo.environment).map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in words + variables { free(text) } }
        var pid: pid_t = 0
        let error = posix_spawnp(&pid, path, &actions, &attributes, words, variables)
        return (pid, error)
    }
}
