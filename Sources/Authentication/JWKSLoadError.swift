/// A key set that could not be read this time.
struct JWKSLoadError: Error, Sendable, Hashable {
    enum Code: String, Sendable {
        case unreadable
        case unreachable
        case status
        case timeout
        case tooLarge = "too_large"
        case notJWKS = "not_jwks"
        case tooManyKeys = "too_many_keys"
        case noUsableKey = "no_usable_key"
    }

    let code: Code
    let message: String
    let remedy: String

    static let tooLarge = JWKSLoadError(code: .tooLarge, message: "larger than 1 MiB", remedy: "publish only the keys that sign tokens now")
}
