import NotificationCore
import SeededRandom
import Testing

@Suite("published messages")
struct EnvelopeTests {
    static func changes() throws -> [InboxChange] {
        var changes: [InboxChange] = []
        for (index, kind) in InboxChange.Kind.allCases.enumerated() {
            var change = try Examples.change(kind, seq: 100 + Int64(index), text: index == 0 ? "" : "customer 🚢 \(index)")
            if index % 3 == 1 { change.customer = nil }
            if index % 2 == 1 { change.customerCounts = nil }
            change.unread = Int32(index) * 1000
            change.customerUnread = -1
            changes.append(change)
        }
        return changes
    }

    static func read(_ bytes: [UInt8]) -> Envelope? {
        bytes.withUnsafeBytes { Envelope($0) }
    }

    private static let place = LogPosition(timeline: 3, lsn: 0x16_B374_D848)

    @Test("a commit whose place in the log is not known has none")
    func noPlace() throws {
        let bytes = Envelope.encode([try Examples.change(.created)], epoch: 1, committedAt: Examples.moment, place: nil)
        #expect(try #require(Self.read(bytes)).place == nil)
    }

    @Test("what is published is read again")
    func roundTrip() throws {
        let changes = try Self.changes()
        let bytes = Envelope.encode(changes, epoch: 9, committedAt: Examples.moment, place: Self.place)
        let envelope = try #require(Self.read(bytes))
        #expect(envelope.epoch == 9)
        #expect(envelope.first == 100)
        #expect(envelope.last == 107)
        #expect(envelope.committedAt == Examples.moment)
        #expect(envelope.place == Self.place)
        #expect(envelope.changes.count == changes.count)
        for (read, change) in zip(envelope.changes, changes) {
            #expect(read.kind == change.kind)
            #expect(read.customer == change.customer)
            #expect(read.customerUnread == change.customerUnread)
            #expect(read.customerUnseen == change.customerUnseen)
            #expect(read.unread == change.unread)
            #expect(read.unseen == change.unseen)
            #expect(read.customerCounts == change.customerCounts)
            var frame: [UInt8] = []
            let unread = StreamFrame.append(change, epoch: 9, to: &frame)
            #expect(Array(bytes[read.frame]) == frame)
            #expect(read.unreadOffset == unread)
        }
        #expect(envelope.changes.last?.frame.upperBound == bytes.count)
    }

    @Test("one change, at any address")
    func unaligned() throws {
        let bytes = Envelope.encode([try Examples.change(.created)], epoch: 1, committedAt: Examples.moment, place: Self.place)
        for shift in 0..<8 {
            let shifted = [UInt8](repeating: 0, count: shift) + bytes
            let envelope = shifted.withUnsafeBytes { Envelope(UnsafeRawBufferPointer(rebasing: $0[shift...])) }
            #expect(envelope?.changes.count == 1)
        }
    }

    @Test("a message that is cut or goes on is not read")
    func truncation() throws {
        let bytes = Envelope.encode(try Self.changes(), epoch: 9, committedAt: Examples.moment, place: Self.place)
        for count in 0..<bytes.count where Self.read(Array(bytes[..<count])) != nil { Issue.record("\(count) bytes were read") }
        #expect(Self.read(bytes + [0]) == nil)
        #expect(Self.read([]) == nil)
        #expect(Envelope.encode([], epoch: 9, committedAt: Examples.moment, place: Self.place).withUnsafeBytes { Envelope($0) } == nil)
    }

    @Test("another version is not read", arguments: [0, 1, 255] as [UInt8])
    func version(_ version: UInt8) throws {
        var bytes = Envelope.encode(try Self.changes(), epoch: 9, committedAt: Examples.moment, place: Self.place)
        bytes[0] = version
        #expect(Self.read(bytes) == nil)
    }

    @Test("numbers that cannot be are not read", arguments: [0, -1, Int64.min, Int64.max, Int64.max - 7])
    func impossibleNumbers(_ first: Int64) throws {
        var bytes = Envelope.encode(try Self.changes(), epoch: 9, committedAt: Examples.moment, place: Self.place)
        withUnsafeBytes(of: first.littleEndian) { bytes.replaceSubrange(9..<17, with: $0) }
        #expect(Self.read(bytes) == nil)
    }

    @Test("random damage gives nothing, or what lies within the message")
    func mutation() throws {
        let whole = Envelope.encode(try Self.changes(), epoch: 9, committedAt: Examples.moment, place: Self.place)
        let header = 39 + 7 * 60
        var random = SeededGenerator(seed: 3)
        for _ in 0..<20_000 {
            var bytes = whole
            for _ in 0...random.below(4) { bytes[random.below(header)] = random.chance(30) ? 0xFF : UInt8(random.below(256)) }
            if random.chance(10) { bytes.removeLast(random.below(bytes.count)) }
            guard let envelope = Self.read(bytes) else { continue }
            var end: Int?
            for change in envelope.changes {
                let inBounds = change.frame.upperBound <= bytes.count && change.unreadOffset <= change.frame.count && change.frame.lowerBound == end ?? change.frame.lowerBound
                if !inBounds { Issue.record("\(change.frame) of \(bytes.count) bytes") }
                end = change.frame.upperBound
            }
            if envelope.last < envelope.first || end != bytes.count { Issue.record("\(envelope.first) to \(envelope.last), up to \(end as Any)") }
        }
    }
}
