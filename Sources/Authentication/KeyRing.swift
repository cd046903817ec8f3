/// The public keys in use: the one of the PEM setting and those of the JWKS.
struct KeyRing: Sendable {
    let pem: VerificationKey?
    /// Nil until the set has been read once.
    var jwks: JSONWebKeySet?

    var isEmpty: Bool { pem == nil && jwks == nil }

    /// The keys to try for a token, and whether one of them was named by its `kid`, in which case no other can be meant.
    func candidates(for token: CompactToken) -> (keys: [VerificationKey], named: Bool) {
        let ofJWKS = (jwks?.keys ?? []).filter { $0.algorithm == token.algorithm }
        if let keyID = token.keyID, let named = ofJWKS.first(where: { $0.keyID == keyID }) {
            return ([named], true)
        }
        var keys: [VerificationKey] = []
        // A PEM has no name, so it answers to any.
        if let pem, pem.algorithm == token.algorithm { keys.append(pem) }
        // Without a name only a set with one such key is unambiguous; trying them all would let anyone spend a hundred verifications a token.
        if token.keyID == nil, ofJWKS.count == 1 { keys += ofJWKS }
        return (keys, false)
    }
}
