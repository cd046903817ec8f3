/// Who was found to stand behind a request.
public enum RequestSubject: Sendable, Hashable {
    case user(UserID)
    /// An API key, by its id, and its name for those who read it.
    case key(NotificationID, name: String)

    /// Whose rate limit it is.
    public var rate: RateSubject {
        switch self {
        case .user(let user): .user(user)
        case .key(let id, _): .key(id)
        }
    }
}
