public import NotificationCore

/// A notification for many users, written down before it is carried out.
public struct Job: Sendable {
    public var id: NotificationID
    /// The request as it came, without its users.
    public var body: String
    /// Whether what becomes of each user is kept for the request's answer.
    public var isTold: Bool
    /// When it was asked for.
    public var createdAt: Timestamp
    /// Of its request; where it is carried out, under a part of that one's own. Nil: it is not traced.
    public var trace: TraceContext?
    /// Of its notification: those of higher ones go before others.
    public var priority: Priority
    /// It ended before, and not everybody had been written to: see ``JobStore/reopen(_:users:)``.
    var isAgain = false

    public init(id: NotificationID = .make(), body: String, isTold: Bool, createdAt: Timestamp, trace: TraceContext? = nil, priority: Priority = .medium) {
        self.id = id
        self.body = body
        self.isTold = isTold
        self.createdAt = createdAt
        self.trace = trace
        self.priority = priority
    }
}

/// How far a job is.
public struct JobStatus: Sendable, Equatable {
    public enum State: String, Sendable {
        case queued, running, done, failed
    }

    public var state: State
    /// Users; doubles counted once.
    public var total: Int
    public var done: Int
    /// Without a channel that they want.
    public var skipped: Int
    /// Whom the database refused.
    public var failed: Int
}

/// A job that this node carries out for as long as it holds the lease.
public struct HeldJob: Sendable {
    public var job: Job
    /// The last user that was dealt with; empty at the start.
    public var position: String
}

/// What one chunk came to, as its claim has it: whoever carries a job on knows by it what was written before.
public struct JobChunk: Sendable, Equatable {
    /// The chunk's last user.
    public var last: String
    public var done: Int
    public var skipped: Int
    /// For the request's answer, where it is told.
    public var answer: NotifyAnswer?

    public static func == (left: JobChunk, right: JobChunk) -> Bool {
        left.last == right.last && left.done == right.done && left.skipped == right.skipped
    }

    init(last: UserID, plan: NotifyPlan, isTold: Bool) {
        self.last = last.value
        self.done = plan.entries.count
        self.skipped = plan.skipped.count
        self.answer = isTold ? NotifyAnswer(plan) : nil
    }

    /// Nil when it is none.
    init?(_ text: String, seqs: [NotificationID: Int64?]) {
        guard let json = try? JSONParser.parse(Array(text.utf8)), let last = json["last"]?.string, case .number(let done) = json["done"],
            case .number(let skipped) = json["left_out"], let done = Int(done), let skipped = Int(skipped)
        else { return nil }
        self.last = last
        self.done = done
        self.skipped = skipped
        self.answer = NotifyAnswer(json, seqs: seqs)
    }

    func encode() -> String {
        var bytes: [UInt8] = []
        bytes.append(ascii: "{\"last\":")
        bytes.append(json: self.last)
        bytes.append(ascii: ",\"done\":")
        bytes.append(decimal: Int64(self.done))
        bytes.append(ascii: ",\"left_out\":")
        bytes.append(decimal: Int64(self.skipped))
        if let answer {
            bytes.append(UInt8(ascii: ","))
            answer.appendMembers(to: &bytes)
        }
        bytes.append(UInt8(ascii: "}"))
        return String(decoding: bytes, as: UTF8.self)
    }
}
