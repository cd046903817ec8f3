/// Who a verified token speaks for. A value of this type names a possible user: what the door let in is not checked again.
public struct UserToken: Sendable, Hashable {
    /// The user's id (`sub`): 1 to 128 Unicode scalars, none of them a control character.
    public let user: String
    /// The names in the claims `role` and `roles`.
    public let roles: Set<String>
    /// The customers whose rows exist for this token; nil: all of them; empty: none.
    public let customers: [String]?
    /// When the token ends, in seconds since 1970, without the configured leeway.
    public let expiresAt: Int64
    /// The token's own id (`jti`).
    public let id: String?

    /// Nil when `user` or one of `customers` cannot be an id.
    public init?(user: String, roles: Set<String> = [], customers: [String]? = nil, expiresAt: Int64, id: String? = nil) {
        guard Self.isValidIdentifier(user), customers?.allSatisfy(Self.isValidIdentifier) ?? true else { return nil }
        self.user = user
        self.roles = roles
        self.customers = customers
        self.expiresAt = expiresAt
        self.id = id
    }

    /// Whether the token has the role `admin`.
    public var isAdmin: Bool { roles.contains("admin") }

    /// The rule for ids of users and customers: 1 to 128 Unicode scalars, none of them a control character.
    static func isValidIdentifier(_ text: String) -> Bool {
        // A scalar takes at most four bytes: this bounds the walk below before it begins.
        guard !text.isEmpty, text.utf8.count <= 4 * 128 else { return false }
        var count = 0
        for scalar in text.unicodeScalars {
            count += 1
            guard count <= 128, scalar.properties.generalCategory != .control else { return false }
        }
        return true
    }
}
