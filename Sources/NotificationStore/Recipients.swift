public import PostgresClient

/// All that is kept about recipients besides their inboxes.
public struct Recipients: Sendable {
    public let preferences: PreferencesStore
    public let contacts: ContactStore
    public let deliveries: DeliveryStore
    public let reader: RecipientReader

    public init(pool: PostgresPool, reader: RecipientReader, observer: (any RecipientObserver)? = nil) {
        self.preferences = PreferencesStore(pool: pool, observer: observer)
        self.contacts = ContactStore(pool: pool)
        self.deliveries = DeliveryStore(pool: pool)
        self.reader = reader
    }
}
