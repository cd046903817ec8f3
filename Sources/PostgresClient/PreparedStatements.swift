/// Which statements one session has prepared, with which parameter types, and under which names.
///
/// A name is never used twice for different things: a statement that must be prepared anew (its parameters have other types, a migration changed its
/// result, a pooler moved the session) takes the next generation's name. What has been through too many generations is sent unprepared.
struct PreparedStatements {
    enum Plan: Equatable {
        case ready(name: String, Use)
        case prepare(name: String, types: [UInt32], Use)
        case unprepared
    }

    /// One statement in one generation.
    struct Use: Hashable {
        let statement: PostgresStatement
        let generation: Int
    }

    private struct Entry {
        var generation = 0
        var types: [UInt32]
        var name: String
        var isPrepared = true
    }

    /// Different statements in one session. The program has a fixed set, so reaching this is a mistake that costs speed only.
    static let capacity = 512
    static let maximumGenerations = 16

    private var entries: [PostgresStatement: Entry] = [:]

    /// How to send this statement with parameters of these types, 0 standing for NULL. What it plans is taken as done.
    mutating func plan(_ statement: PostgresStatement, types: [UInt32]) -> Plan {
        guard let index = entries.index(forKey: statement) else {
            guard entries.count < Self.capacity else { return .unprepared }
            let name = statement.name(generation: 0)
            entries[statement] = Entry(types: types, name: name)
            return .prepare(name: name, types: types, Use(statement: statement, generation: 0))
        }
        let entry = entries.values[index]
        if entry.isPrepared, Self.accepts(entry.types, types) {
            return .ready(name: entry.name, Use(statement: statement, generation: entry.generation))
        }
        let generation = entry.isPrepared ? entry.generation + 1 : entry.generation
        guard generation < Self.maximumGenerations else { return .unprepared }
        let merged = Self.merge(entry.types, types)
        let name = statement.name(generation: generation)
        entries[statement] = Entry(generation: generation, types: merged, name: name)
        return .prepare(name: name, types: merged, Use(statement: statement, generation: generation))
    }

    /// The session does not have this one, or can no longer run it. Its next use prepares it under the next name.
    mutating func forget(_ use: Use) {
        guard let entry = entries[use.statement], entry.generation == use.generation, entry.isPrepared else { return }
        entries[use.statement]?.generation += 1
        entries[use.statement]?.isPrepared = false
    }

    /// NULL fits every type; a parameter that was NULL at first has a type of the server's choice, which our binary value need not have.
    private static func accepts(_ prepared: [UInt32], _ used: [UInt32]) -> Bool {
        prepared.count == used.count && zip(prepared, used).allSatisfy { $1 == PostgresType.unspecified || $0 == $1 }
    }

    /// Types known from earlier uses stand in for NULLs, so that a statement with NULLs here and there settles on one full signature.
    private static func merge(_ old: [UInt32], _ new: [UInt32]) -> [UInt32] {
        guard old.count == new.count else { return new }
        return zip(old, new).map { $1 == PostgresType.unspecified ? $0 : $1 }
    }
}
