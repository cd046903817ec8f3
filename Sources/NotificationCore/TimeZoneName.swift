import Foundation

/// A time zone by its name in the IANA database (RFC 6557), such as `Europe/Paris`. Names are compared as they are written.
public struct TimeZoneName: Sendable, Hashable {
    public let identifier: String
    private let zone: TimeZone

    /// The database's names without a place. The system knows more words, of its own making or ambiguous (`PST`, `GMT+3`).
    private static let plain: Set<String> = [
        "UTC", "UCT", "GMT", "Zulu", "Universal", "Greenwich", "CET", "MET", "EET", "WET", "EST", "MST", "HST", "EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT",
        "Cuba", "Egypt", "Eire", "GB", "GB-Eire", "Hongkong", "Iceland", "Iran", "Israel", "Jamaica", "Japan", "Kwajalein", "Libya", "NZ", "NZ-CHAT",
        "Navajo", "PRC", "Poland", "Portugal", "ROC", "ROK", "Singapore", "Turkey", "W-SU",
    ]

    /// Nil for a name that the database does not have.
    public init?(_ name: String) {
        func isPlain(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            default: "_+-/".utf8.contains(byte)
            }
        }
        let hasPlace = name.utf8.contains(UInt8(ascii: "/")) && !name.utf8.starts(with: "SystemV/".utf8)
        guard name.utf8.count <= 64, name.utf8.allSatisfy(isPlain), hasPlace || Self.plain.contains(name), let zone = TimeZone(identifier: name) else { return nil }
        self.identifier = name
        self.zone = zone
    }

    public static let utc = TimeZoneName("UTC")!

    /// Seconds that its clocks are ahead of UTC then.
    func offset(at second: Int64) -> Int64 {
        Int64(self.zone.secondsFromGMT(for: Date(timeIntervalSince1970: TimeInterval(second))))
    }

    public static func == (left: Self, right: Self) -> Bool { left.identifier.utf8.elementsEqual(right.identifier.utf8) }
    public func hash(into hasher: inout Hasher) { hasher.combine(self.identifier) }
}
