import ArgumentParser

/// How notifications are published.
enum Publish: String, Codable, Sendable, CaseIterable, ExpressibleByArgument {
    /// `POST /v1/internal/notify`: 201 with ids and numbers.
    case notify
    /// `POST /v1/notifications/trigger`: 202, through the queue.
    case trigger
    /// `POST /v1/notifications/sse`: without storage, to the users named.
    case direct
    /// The same to every stream.
    case broadcast

    /// Whether what is shown has no number and is sent at most once.
    var isDirect: Bool { self == .direct || self == .broadcast }

    var route: String {
        switch self {
        case .notify: "POST /v1/internal/notify"
        case .trigger: "POST /v1/notifications/trigger"
        case .direct, .broadcast: "POST /v1/notifications/sse"
        }
    }

    var status: Int {
        switch self {
        case .notify: 201
        case .trigger: 202
        case .direct, .broadcast: 200
        }
    }
}

/// A part of a run with one rate.
struct SendPhase: Codable, Sendable, Equatable {
    var name: String
    /// Notifications a second; for `broadcast`, calls.
    var rate: Double
    /// Seconds that are measured, after `warmup` seconds that are not.
    var duration: Double
    var warmup: Double
    var publish = Publish.notify
    /// Users of one call.
    var group = 1
    /// Inbox operations per call.
    var mix: Double = 0
    /// Streams held meanwhile, the first ones of the run; nil: all.
    var connections: Int?
    /// A command for `sh -c` that is run to its end before this part's streams are opened: what happens to the servers meanwhile.
    var before: String?
}

/// What a rate must not exceed to count as held.
struct RampLimit: Codable, Sendable, Equatable {
    /// Milliseconds from due to receipt.
    var p99: Double
    /// Of the due rate that must arrive.
    var share = 0.95
}
