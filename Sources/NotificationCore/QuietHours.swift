/// The hours of the day during which a user wants no e-mail and no text, by the clocks of a time zone.
public struct QuietHours: Sendable, Hashable {
    /// Minutes after midnight. The end does not belong to them; it may lie before the start, on the next day. The two differ.
    public let start: Int
    public let end: Int
    /// Nil: the zone of the user's contact, else UTC.
    public let zone: TimeZoneName?

    /// Nil when they are no times of a day, or the same one.
    public init?(start: Int, end: Int, zone: TimeZoneName?) {
        guard (0..<1440).contains(start), (0..<1440).contains(end), start != end else { return nil }
        self.start = start
        self.end = end
        self.zone = zone
    }

    /// When they are over, seen from a moment within them; nil when they are not on.
    ///
    /// They are on while the clocks on the wall show a time from `start` to before `end`. Where the clocks are put forward past the end, they are over
    /// then; where they are put back, it may be that they begin again.
    public func end(at now: Timestamp, defaultZone: TimeZoneName?) -> Timestamp? {
        let zone = self.zone ?? defaultZone ?? .utc
        let second = now.seconds
        let offset = zone.offset(at: second)
        guard let wait = self.remaining(second + offset) else { return nil }
        let end = second + wait
        if zone.offset(at: end) == offset { return Timestamp(seconds: end) }
        // The clocks are changed before that. `changed` is the first second of the other offset.
        var before = second
        var changed = end
        while changed - before > 1 {
            let middle = (before + changed) / 2
            if zone.offset(at: middle) == offset { before = middle } else { changed = middle }
        }
        return Timestamp(seconds: changed + (self.remaining(changed + zone.offset(at: changed)) ?? 0))
    }

    /// Seconds until the end, by clocks that are not changed meanwhile; nil outside of the hours.
    private func remaining(_ local: Int64) -> Int64? {
        let day: Int64 = 86_400
        let time = ((local % day) + day) % day
        let (start, end) = (Int64(self.start) * 60, Int64(self.end) * 60)
        let isOn = start < end ? (start..<end).contains(time) : time >= start || time < end
        return isOn ? (end - time + day) % day : nil
    }
}

/// `HH:MM` from 00:00 to 23:59, in minutes after midnight.
enum TimeOfDay {
    static func parse(_ text: String) -> Int? {
        let bytes = Array(text.utf8)
        func number(_ index: Int) -> Int? {
            guard bytes[index] >= UInt8(ascii: "0"), bytes[index] <= UInt8(ascii: "9"), bytes[index + 1] >= UInt8(ascii: "0"), bytes[index + 1] <= UInt8(ascii: "9")
            else { return nil }
            return Int(bytes[index] - UInt8(ascii: "0")) * 10 + Int(bytes[index + 1] - UInt8(ascii: "0"))
        }
        guard bytes.count == 5, bytes[2] == UInt8(ascii: ":"), let hours = number(0), let minutes = number(3), hours < 24, minutes < 60 else { return nil }
        return hours * 60 + minutes
    }

    static func text(_ minutes: Int) -> String {
        var bytes: [UInt8] = []
        bytes.append(decimal: Int64(minutes / 60), width: 2)
        bytes.append(UInt8(ascii: ":"))
        bytes.append(decimal: Int64(minutes % 60), width: 2)
        return String(decoding: bytes, as: UTF8.self)
    }
}
