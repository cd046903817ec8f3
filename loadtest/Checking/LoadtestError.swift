/// Why the tool could not go on, and what to do about it.
struct LoadtestError: Error, Equatable, CustomStringConvertible {
    enum Code: String {
        /// The command line or the environment asks for something that cannot be done: exit status 2.
        case usage
        /// The cluster could not be reached or answered something unusable: exit status 1.
        case environment
        /// Bytes that break the protocol they should follow.
        case malformed
    }

    let code: Code
    let message: String
    /// What to do next.
    let advice: String

    var description: String { "\(message). \(advice)" }

    static func usage(_ message: String, _ advice: String) -> LoadtestError { .init(code: .usage, message: message, advice: advice) }
    static func environment(_ message: String, _ advice: String) -> LoadtestError { .init(code: .environment, message: message, advice: advice) }
    static func malformed(_ message: String) -> LoadtestError {
        .init(code: .malformed, message: message, advice: "Look at what the server or the proxy before it sent")
    }
}
