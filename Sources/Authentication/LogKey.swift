import Logging

/// The keys under which values stand in log lines. No token and no secret is among them.
enum LogKey: String {
    case setting
    case code
    case reason
    case remedy
    case keys
}

extension Logger {
    func log(level: Logger.Level, _ message: Logger.Message, _ values: KeyValuePairs<LogKey, String>) {
        var metadata = Logger.Metadata()
        for (key, value) in values { metadata[key.rawValue] = .string(value) }
        log(level: level, message, metadata: metadata)
    }
}
