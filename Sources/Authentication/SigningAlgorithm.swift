/// The signature algorithms of RFC 7518 and RFC 8037 that are ever accepted. `none` is not among them.
enum SigningAlgorithm: String, Sendable, Hashable {
    case hs256 = "HS256"
    case rs256 = "RS256"
    case es256 = "ES256"
    case eddsa = "EdDSA"
}
