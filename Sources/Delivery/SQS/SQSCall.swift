import NotificationCore

/// A call of Amazon SQS by its JSON protocol (AWS JSON 1.0): the operation and its body.
struct SQSCall: Sendable, Equatable {
    /// Entries of one batch, and messages of one answer.
    static let batch = 10
    /// Seconds that a message may be hidden, at most.
    static let longestHiding = 43_200

    var operation: String
    var body: JSONValue

    private init(_ operation: String, _ queue: String, _ members: [(name: String, value: JSONValue)] = []) {
        self.operation = operation
        self.body = .object([(name: "QueueUrl", value: .string(queue))] + members)
    }

    /// Entries are told apart by their place: `"0"` to `"9"`.
    private static func batch(_ operation: String, _ queue: String, _ entries: [[(name: String, value: JSONValue)]]) -> SQSCall {
        precondition((1...Self.batch).contains(entries.count), "a batch has 1 to 10 entries")
        let numbered = entries.enumerated().map { JSONValue.object([(name: "Id", value: .string("\($0.offset)"))] + $0.element) }
        return SQSCall(operation, queue, [(name: "Entries", value: .array(numbered))])
    }

    static func send(_ bodies: [String], to queue: String) -> SQSCall {
        self.batch("SendMessageBatch", queue, bodies.map { [(name: "MessageBody", value: .string($0))] })
    }

    static func delete(_ receipts: [String], from queue: String) -> SQSCall {
        self.batch("DeleteMessageBatch", queue, receipts.map { [(name: "ReceiptHandle", value: .string($0))] })
    }

    static func hide(_ messages: [(receipt: String, seconds: Int)], in queue: String) -> SQSCall {
        self.batch(
            "ChangeMessageVisibilityBatch", queue,
            messages.map { message in
                [
                    (name: "ReceiptHandle", value: .string(message.receipt)),
                    (name: "VisibilityTimeout", value: .number("\(min(max(0, message.seconds), Self.longestHiding))")),
                ]
            })
    }

    /// - Parameters:
    ///   - wait: 0 to 20 seconds, for the first message.
    ///   - hidden: in seconds, for which nobody else gets them.
    static func receive(_ limit: Int, from queue: String, wait: Int, hidden: Int) -> SQSCall {
        SQSCall(
            "ReceiveMessage", queue,
            [
                (name: "MaxNumberOfMessages", value: .number("\(min(max(1, limit), Self.batch))")), (name: "WaitTimeSeconds", value: .number("\(wait)")),
                (name: "VisibilityTimeout", value: .number("\(min(hidden, Self.longestHiding))")),
            ])
    }

    static func depth(of queue: String) -> SQSCall {
        SQSCall(
            "GetQueueAttributes", queue,
            [(name: "AttributeNames", value: .array([.string("ApproximateNumberOfMessages"), .string("ApproximateNumberOfMessagesNotVisible")]))])
    }
}

/// What came of the entries of a batch, in their order: nil, or why one failed. One of which nothing is said has failed.
struct SQSBatchAnswer: Sendable, Equatable {
    var failures: [String?]

    init(_ json: JSONValue, count: Int) {
        self.failures = Array(repeating: "nothing is said of it", count: count)
        for entry in json["Successful"]?.elements ?? [] {
            if let place = Self.place(entry, count) { self.failures[place] = nil }
        }
        for entry in json["Failed"]?.elements ?? [] {
            guard let place = Self.place(entry, count) else { continue }
            self.failures[place] = [entry["Code"]?.string, entry["Message"]?.string.map { String($0.prefix(300)) }].compactMap { $0 }.joined(separator: ": ")
        }
    }

    private static func place(_ entry: JSONValue, _ count: Int) -> Int? {
        guard let place = entry["Id"]?.string.flatMap({ Int($0) }), (0..<count).contains(place) else { return nil }
        return place
    }
}

/// A message as it was received: what it says, and by what it is deleted.
struct SQSMessage: Sendable, Equatable {
    var body: String
    var receipt: String

    static func list(_ json: JSONValue) -> [SQSMessage] {
        (json["Messages"]?.elements ?? []).compactMap { message in
            guard let receipt = message["ReceiptHandle"]?.string else { return nil }
            return SQSMessage(body: message["Body"]?.string ?? "", receipt: receipt)
        }
    }
}

/// What a message says: which task is ready. All else is in Postgres.
enum TaskMessage {
    static func text(_ task: NotificationID) -> String { "{\"task\":\"\(task)\"}" }

    /// Nil when somebody else has written it.
    static func task(_ text: String) -> NotificationID? {
        guard let json = try? JSONParser.parse(Array(text.utf8)) else { return nil }
        return json["task"]?.string.flatMap { NotificationID($0) }
    }
}

extension JSONValue {
    fileprivate var elements: [JSONValue] {
        guard case .array(let elements) = self else { return [] }
        return elements
    }
}
