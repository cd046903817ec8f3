public import NotificationCore
public import NotificationStore

/// Where a badge's numbers come from: the copy in Redis when it is there, else Postgres.
public protocol CountSource: Sendable {
    func head(of user: UserID) async throws(StoreError) -> InboxHead
}
