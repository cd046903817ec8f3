public import Logging
public import NotificationCore

extension TraceContext? {
    /// What each line of the log about that work says.
    public var logged: Logger.Metadata {
        guard let self else { return [:] }
        return ["trace_id": .string(self.traceID), "span_id": .string(self.spanID)]
    }
}
