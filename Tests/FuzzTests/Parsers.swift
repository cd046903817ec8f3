extension Parser {
    static let all: [Parser] = Self.core + Self.bodies + Self.transports + Self.credentials + Self.operators
}
