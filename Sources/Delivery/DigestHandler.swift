public import Logging
public import NotificationCore
public import NotificationStore
public import PostgresClient
import Synchronization

/// Sends what was gathered for a user as one e-mail. A single one goes as it would have gone by itself.
///
/// Each of them is a task; a claim brings all that are ready of a user. Whichever of them is attempted first sends the e-mail for all, so that they have one
/// result, and are tried again together.
public struct DigestHandler: TaskHandler {
    /// What one task shares with the others of its user.
    public struct Share: Sendable {
        let made: DeliveryHandler.Made
        let group: Group
    }

    /// The attempt of several tasks, made once.
    final class Group: Sendable {
        let messages: [OutgoingMessage]
        private let attempt = Mutex<Task<AttemptResult, Never>?>(nil)

        init(_ messages: [OutgoingMessage]) {
            self.messages = messages
        }

        func result(_ make: @escaping @Sendable () async -> AttemptResult) async -> AttemptResult {
            let attempt = self.attempt.withLock { attempt in
                if let attempt { return attempt }
                // No child of the task that comes first: the others wait for it just so.
                let made = Task { await make() }
                attempt = made
                return made
            }
            return await withTaskCancellationHandler { await attempt.value } onCancel: { attempt.cancel() }
        }
    }

    private let single: DeliveryHandler
    private let sender: any ChannelSender
    private let unsubscribe: @Sendable (UnsubscribeScope) -> String?

    /// - Parameter unsubscribe: as of ``DeliveryHandler``. One of several is rid of the types that are in it.
    public init(
        sender: any ChannelSender, pool: PostgresPool, catalogue: @escaping @Sendable () -> Catalogue, logger: Logger,
        unsubscribe: @escaping @Sendable (UnsubscribeScope) -> String? = { _ in nil }
    ) {
        self.single = DeliveryHandler(.email, sender: sender, pool: pool, catalogue: catalogue, logger: logger, unsubscribe: unsubscribe)
        self.sender = sender
        self.unsubscribe = unsubscribe
    }

    public func materials(for tasks: [QueuedTask]) async throws(StoreError) -> [Share] {
        let made = zip(tasks, try await self.single.materials(for: tasks)).map { self.single.message($0, $1) }
        var messages: [UserID: [OutgoingMessage]] = [:]
        for made in made {
            if case .message(let message) = made { messages[message.userID, default: []].append(message) }
        }
        // Ids of version 7: in the order in which they were queued.
        let groups = messages.mapValues { Group($0.sorted { $0.deliveryID.utf8.lexicographicallyPrecedes($1.deliveryID.utf8) }) }
        return zip(tasks, made).map { Share(made: $1, group: $0.user.flatMap { groups[$0] } ?? Group([])) }
    }

    public func attempt(_ task: QueuedTask, _ share: Share) async -> AttemptResult {
        if case .none(let result) = share.made { return result }
        let (group, sender, unsubscribe) = (share.group, self.sender, self.unsubscribe)
        return await group.result {
            guard var message = DigestText.message(group.messages) else { return .over(.failed, reason: "there is nothing to send") }
            // From all that can be turned off of what it holds, and nothing else.
            if group.messages.count > 1 { message.unsubscribeURL = UnsubscribeScope(of: group.messages.compactMap(\.unsubscribe)).flatMap(unsubscribe) }
            return DeliveryHandler.result(await sender.send(message))
        }
    }

    /// The same for all of a user's.
    public func jitter(_ task: QueuedTask) -> Double {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in task.key.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return Double(hash >> 11) / Double(1 << 53)
    }
}

/// One e-mail made of several, in no language but theirs.
enum DigestText {
    /// Told in full; of more there is the number.
    static let bound = 100

    /// Nil of nothing.
    static func message(_ messages: [OutgoingMessage]) -> OutgoingMessage? {
        guard var message = messages.first, messages.count > 1 else { return messages.first }
        let shown = messages.prefix(self.bound)
        let more = messages.count - shown.count
        message.subject = (message.subject ?? "") + " (+\(messages.count - 1))"
        message.text = (shown.map(self.text) + (more > 0 ? ["(+\(more))"] : [])).joined(separator: "\n\n– – –\n\n")
        message.html = "<ul>" + shown.map { "<li>\(self.html($0))</li>" }.joined(separator: "\n") + "</ul>" + (more > 0 ? "<p>(+\(more))</p>" : "")
        return message
    }

    private static func text(_ message: OutgoingMessage) -> String {
        let subject = message.subject ?? ""
        guard let text = message.text, !text.utf8.elementsEqual(subject.utf8) else { return subject }
        return subject + "\n" + text
    }

    private static func html(_ message: OutgoingMessage) -> String {
        HTMLText.escaped(self.text(message)).split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "<br>\n")
    }
}
