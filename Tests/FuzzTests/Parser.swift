import SeededRandom
import Testing

/// What becomes of inputs that nobody would send by mistake: one parser, and what must hold of whatever it takes.
struct Parser: Sendable, CustomTestStringConvertible {
    /// Of its folder of inputs, too.
    let name: String
    /// What its inputs are made of.
    let words: [String]
    /// Inputs that are easier made than written.
    let made: @Sendable () throws -> [[UInt8]]
    /// So many times fewer inputs are tried, since each takes longer.
    let cost: Int
    /// Says in a few words what became of the input, so that inputs of another kind are found and tried on.
    ///
    /// - Throws: ``Broken`` when a promise does not hold.
    let run: @Sendable ([UInt8]) throws -> String

    init(
        _ name: String, words: [String] = [], cost: Int = 1, made: @escaping @Sendable () throws -> [[UInt8]] = { [] },
        run: @escaping @Sendable ([UInt8]) throws -> String
    ) {
        self.name = name
        self.words = words
        self.cost = cost
        self.made = made
        self.run = run
    }

    var testDescription: String { self.name }
}

/// A promise that an input has broken.
struct Broken: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

func promise(_ holds: Bool, _ what: @autoclosure () -> String) throws {
    if !holds { throw Broken(what()) }
}

/// Why a parser said no, less what differs from input to input.
func refused(_ why: some StringProtocol) -> String {
    String("refused: \(why)".prefix(90).map { $0.isNumber ? "#" : $0 })
}

func text(_ input: [UInt8]) -> String { String(decoding: input, as: UTF8.self) }

/// Cuts that depend on nothing but the input: the same pieces each time.
func pieces(_ input: [UInt8]) -> [[UInt8]] {
    var random = SeededGenerator(seed: input.reduce(UInt64(input.count)) { ($0 &* 31) &+ UInt64($1) })
    var pieces: [[UInt8]] = []
    var rest = input[...]
    while !rest.isEmpty {
        pieces.append(Array(rest.prefix(1 + random.below(random.below(3) == 0 ? 4096 : 7))))
        rest = rest.dropFirst(pieces[pieces.count - 1].count)
    }
    return pieces
}
