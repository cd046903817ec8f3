import Foundation

enum FileDescriptorLimit {
    /// Descriptors for event loops, logs and the like.
    private static let reserve = 64

    /// Raises the soft limit to the hard one and throws when the run would still not fit.
    static func require(_ connections: Int) throws(LoadtestError) {
        var limit = rlimit()
        #if os(Linux)
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        #else
            let resource = RLIMIT_NOFILE
        #endif
        guard getrlimit(resource, &limit) == 0 else {
            throw .environment("The limit of file descriptors cannot be read (errno \(errno))", "Check that the system lets processes read their limits")
        }
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max
            // A refusal leaves the limit as it was, which the next lines look at.
            _ = setrlimit(resource, &limit)
            getrlimit(resource, &limit)
        }
        guard fits(connections, limit: UInt64(limit.rlim_cur)) else {
            throw .usage(
                "\(connections) connections need \(connections + reserve) file descriptors, the limit is \(limit.rlim_cur)",
                "Raise the hard limit (ulimit -Hn), or give fewer --connections"
            )
        }
    }

    static func fits(_ connections: Int, limit: UInt64) -> Bool { UInt64(connections + reserve) <= limit }
}
