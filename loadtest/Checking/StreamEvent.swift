/// One block of the stream with the members of its data that the checks need.
struct StreamEvent {
    /// What the JSON of an event says; absent members are nil.
    struct Facts {
        var notification: NotificationID?
        var unread: Int64?
        var read: Bool?
        var unseen: Int64?
        /// The `rec_id` of a notification of this tool's.
        var call: CallNumber?
        /// `"ephemeral":true`: a direct event.
        var ephemeral = false
        /// `"all":true`, which an `update` that names no notification carries.
        var all = false
        /// Whether `customer_id`, `type` or `up_to_seq` narrows a `read_all`.
        var filtered = false
        var reason: String?
        /// When the notification was due, in nanoseconds since the run's origin, if it is of this run.
        var due: UInt64?
    }

    let name: SSEBlock.Name
    let id: SSEBlock.Identifier
    let hasData: Bool
    let facts: Facts

    init(name: SSEBlock.Name, id: SSEBlock.Identifier, hasData: Bool = true, facts: Facts) {
        self.name = name
        self.id = id
        self.hasData = hasData
        self.facts = facts
    }

    /// Reads the block's JSON. `run` is the run id that `data.run` must name for `data.due` to count; without `numbered` the ids are
    /// another program's, and say nothing here.
    init(_ block: SSEBlock, run: [UInt8], numbered: Bool = true) throws(LoadtestError) {
        name = block.name
        id = numbered ? block.id : .absent
        hasData = block.hasData
        facts = block.hasData ? try Self.facts(block.data, run: run) : Facts()
    }

    private static func facts(_ data: UnsafeRawBufferPointer, run: [UInt8]) throws(LoadtestError) -> Facts {
        var facts = Facts()
        var reader = JSONReader(data)
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("id") {
                facts.notification = try reader.stringIfAny().flatMap { NotificationID($0.bytes) }
            } else if key.matches("unread") {
                facts.unread = try reader.integerIfAny()
            } else if key.matches("read") {
                facts.read = try reader.boolIfAny()
            } else if key.matches("unseen") {
                facts.unseen = try reader.integerIfAny()
            } else if key.matches("rec_id") {
                facts.call = try reader.stringIfAny().flatMap { CallNumber($0.bytes) }
            } else if key.matches("all") {
                facts.all = try reader.boolIfAny() ?? false
            } else if key.matches("ephemeral") {
                facts.ephemeral = try reader.boolIfAny() ?? false
            } else if key.matches("customer_id") || key.matches("type") || key.matches("up_to_seq") {
                if try reader.skip() { facts.filtered = true }
            } else if key.matches("reason") {
                facts.reason = try reader.stringIfAny()?.string
            } else if key.matches("data"), reader.standsAtObject {
                var due: UInt64?
                var ours = false
                try reader.object { (key, reader) throws(LoadtestError) in
                    if key.matches("due") {
                        due = try reader.integerIfAny().flatMap { UInt64(exactly: $0) }
                    } else if key.matches("run") {
                        ours = try reader.stringIfAny().map { $0.bytes.elementsEqual(run) } ?? false
                    } else {
                        try reader.skip()
                    }
                }
                if ours { facts.due = due }
            } else {
                try reader.skip()
            }
        }
        try reader.end()
        return facts
    }
}
