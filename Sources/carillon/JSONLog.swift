import Foundation
import Logging
import NotificationCore
import Synchronization

/// Logs as JSON, one object a line, to standard error. Messages are constant; values are members.
struct JSONLogHandler: LogHandler {
    let label: String
    let node: String
    let level: LiveLogLevel
    private var ownLevel: Logger.Level?
    var metadata: Logger.Metadata = [:]

    init(label: String, node: String, level: LiveLogLevel) {
        self.label = label
        self.node = node
        self.level = level
    }

    /// The process's, unless one logger was given its own.
    var logLevel: Logger.Level {
        get { self.ownLevel ?? self.level.current }
        set { self.ownLevel = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    private static let output = Mutex(FileHandle.standardError)

    func log(event: LogEvent) {
        var members: [(name: String, value: JSONValue)] = [
            ("time", .string(Timestamp.now().description)), ("level", .string(event.level.rawValue)), ("node", .string(self.node)),
            ("message", .string("\(event.message)")),
        ]
        for (key, value) in self.metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }) {
            members.append((key, .string("\(value)")))
        }
        var line = JSONValue.object(members).encoded
        line.append(UInt8(ascii: "\n"))
        let data = Data(line)
        Self.output.withLock { $0.write(data) }
    }
}
