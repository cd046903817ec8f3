/// How many nodes of each role a cluster has.
struct ClusterShape: Equatable, Sendable {
    var apis: Int
    var edges: Int
    var workers: Int
}

/// One thing that is done to a cluster while it is under load.
struct Fault: Equatable, Sendable {
    enum Role: String, CaseIterable, Sendable, Codable { case api, edge, worker, redis, postgres, haproxy }

    enum Action: String, CaseIterable, Sendable, Codable {
        /// SIGKILL; started again after `seconds`.
        case kill
        /// SIGSTOP for `seconds`, then SIGCONT.
        case freeze
        /// SIGTERM, waiting for the graceful end; started again after `seconds` more.
        case stop
        /// Every connection between edge and Redis is reset, and new ones are refused for `seconds`.
        case cut
        /// Each way between edge and Redis takes longer.
        case delay
        /// A few KB a second pass between edge and Redis.
        case throttle
        /// Nothing passes between edge and Redis, and nothing is closed.
        case silence
    }

    /// What is counted and reported together.
    struct Kind: Hashable, Comparable, Sendable, CustomStringConvertible {
        let action: Action
        /// For faults of a link: the edge.
        let role: Role

        var isLink: Bool {
            switch action {
            case .kill, .freeze, .stop: false
            case .cut, .delay, .throttle, .silence: true
            }
        }

        var description: String { isLink ? "link \(action)" : "\(role) \(action)" }

        static func < (left: Kind, right: Kind) -> Bool { left.description < right.description }

        static let all: [Kind] =
            Role.allCases.flatMap { role in [Action.kill, .freeze, .stop].map { Kind(action: $0, role: role) } }
            + [Action.cut, .delay, .throttle, .silence].map { Kind(action: $0, role: .edge) }
    }

    var kind: Kind
    /// Counted from 1 in its role; of a server that there is one of, and for the links of all edges: 0.
    var number: Int
    /// Seconds after sending began.
    var at: Double
    /// How long it lasts, less what ending and starting take.
    var seconds: Double
    /// Milliseconds of a delay, bytes a second of a throttle, else 0.
    var amount: Int

    /// The name that `deploy/local` has for it.
    var target: String { number == 0 ? (kind.isLink ? "edges" : kind.role.rawValue) : "\(kind.role)-\(number)" }

    /// Seconds until the target is expected to serve again: with the drain of an edge (20 s), and a start.
    var expectedSeconds: Double {
        switch kind.action {
        case .kill: seconds + (kind.role == .postgres ? 2.5 : 1)
        case .stop: seconds + (kind.role == .edge ? 22 : kind.role == .haproxy || kind.role == .postgres ? 3.5 : 1.5)
        case .freeze, .cut, .delay, .throttle, .silence: seconds
        }
    }

    var expectedEnd: Double { at + expectedSeconds }

    var text: String {
        switch kind.action {
        case .delay: "\(kind) \(target) by \(amount) ms"
        case .throttle: "\(kind) \(target) to \(amount) bytes/s"
        default: kind.isLink ? "\(kind) \(target)" : "\(kind.action) \(target)"
        }
    }

    /// Whether the two may be under way at the same time.
    ///
    /// Not the same server twice; not all nodes of a role; not the database together with what stands in for it. The links of an edge
    /// stay as they are while another fault of a link is on, or while the edge itself is away.
    func mayOverlap(_ other: Fault, shape: ClusterShape) -> Bool {
        if kind.isLink && other.kind.isLink { return false }
        if kind.isLink || other.kind.isLink { return kind.role != other.kind.role || (number != other.number && number != 0 && other.number != 0) }
        if kind.role == other.kind.role {
            let nodes =
                switch kind.role {
                case .api: shape.apis
                case .edge: shape.edges
                case .worker, .redis, .postgres, .haproxy: 1
                }
            // Of three nodes two may be away; a third fault would have to know of both, so that two are the most.
            return nodes > 2 && number != other.number
        }
        let roles: Set<Role> = [kind.role, other.kind.role]
        return roles != [.redis, .postgres]
    }
}
