/// A token that cannot be minted.
public struct TokenMintingError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of fault it is.
    public enum Code: String, Sendable {
        case weakSecret = "weak_secret"
        case invalidUser = "invalid_user"
        case invalidCustomer = "invalid_customer"
        case invalidLife = "invalid_life"
        case tooLong = "too_long"
    }

    /// What kind of fault it is.
    public let code: Code
    /// What is wrong.
    public let message: String
    /// What to do next.
    public let remedy: String

    public var description: String { "\(message); \(remedy)" }

    static let weakSecret = TokenMintingError(
        code: .weakSecret, message: "\(SettingName.secret) is shorter than 32 bytes", remedy: "use at least 32 random ones (openssl rand -hex 32)"
    )
    static let invalidUser = TokenMintingError(
        code: .invalidUser, message: "the user's id is not possible", remedy: "use 1 to 128 characters, none of them a control character"
    )
    static let invalidCustomer = TokenMintingError(
        code: .invalidCustomer, message: "a customer's id is not possible", remedy: "use 1 to 128 characters, none of them a control character"
    )
    static let invalidLife = TokenMintingError(
        code: .invalidLife, message: "the token's life is not possible", remedy: "use 1 second to 10 years"
    )
    static let tooLong = TokenMintingError(
        code: .tooLong, message: "the token would be longer than 8 KiB", remedy: "name fewer customers"
    )
}
