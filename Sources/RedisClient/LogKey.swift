internal import Logging

/// The names of the values in this module's log messages.
enum LogKey: String {
    case endpoint = "redis_endpoint"
    case reason = "redis_reason"
    case retryMilliseconds = "redis_retry_ms"
    case channels = "redis_channels"
}

extension Logger {
    func log(_ level: Logger.Level, _ message: Logger.Message, _ values: [LogKey: String]) {
        var metadata: Logger.Metadata = [:]
        for (key, value) in values { metadata[key.rawValue] = .string(value) }
        log(level: level, message, metadata: metadata)
    }
}
