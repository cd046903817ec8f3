import Foundation

/// What the system knows of this process, by the names that Prometheus' own libraries use. Of what `/proc` does not say there is no line.
struct ProcessFigures {
    private static let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
    private static let page = sysconf(Int32(_SC_PAGESIZE))

    func write(to text: inout MetricsText) {
        // The name, in brackets, may hold anything; the numbers come after it.
        if let stat = Self.read("/proc/self/stat"), let end = stat.lastIndex(of: ")") {
            let fields = stat[stat.index(after: end)...].split(separator: " ")
            if fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]), let threads = Int(fields[17]), let resident = Int(fields[21]) {
                text.counters("process_cpu_seconds_total", "CPU time, of user and system.", [("", "\((user + system) / Self.ticks)")])
                text.gauge("process_resident_memory_bytes", "Resident memory.", resident * Self.page)
                text.gauge("process_threads", "Threads.", threads)
            }
            if fields.count > 19, let started = Double(fields[19]), let boot = Self.bootTime {
                text.gauges("process_start_time_seconds", "When it began, since 1970.", [("", "\(boot + started / Self.ticks)")])
            }
        }
        // The size of that folder is how many it has, since Linux 6.2; before it is 0. To count them one by one would take long.
        var folder = stat()
        if stat("/proc/self/fd", &folder) == 0, folder.st_size > 0 { text.gauge("process_open_fds", "File descriptors open.", Int(folder.st_size)) }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            text.gauge("process_max_fds", "File descriptors that may be open.", Int(clamping: limit.rlim_cur))
        }
    }

    private static var bootTime: Double? {
        self.read("/proc/stat")?.split(separator: "\n").first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst("btime ".count)) }
    }

    private static func read(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
}
