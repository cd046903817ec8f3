/// Why a channel does not get a notification.
public enum Suppression: String, Sendable, CaseIterable {
    case preference
    case noContact = "no_contact"
    case notConfigured = "not_configured"
    case rateLimited = "rate_limited"
}
