#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// A moment in UTC, in microseconds since 1970, the resolution of Postgres' `timestamptz`.
public struct Timestamp: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var microseconds: Int64

    public init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    /// What lies further away than microseconds can say is the furthest that they can: a token may name any time at all as its end.
    public init(seconds: Int64) {
        let most = Int64.max / 1_000_000
        self.microseconds = min(max(seconds, -most), most) * 1_000_000
    }

    public static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)
    }

    public var seconds: Int64 { self.microseconds.flooredDivision(by: 1_000_000) }

    public static func < (lhs: Self, rhs: Self) -> Bool { lhs.microseconds < rhs.microseconds }

    /// RFC 3339 in UTC; a fraction of milliseconds only where there is one.
    public var description: String {
        var bytes: [UInt8] = []
        self.append(to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    package func append(to bytes: inout [UInt8]) {
        let seconds = self.seconds
        let days = seconds.flooredDivision(by: 86_400)
        let clock = seconds - days * 86_400
        let (year, month, day) = Self.civil(days: days)
        bytes.append(decimal: year, width: 4)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(decimal: month, width: 2)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(decimal: day, width: 2)
        bytes.append(UInt8(ascii: "T"))
        bytes.append(decimal: clock / 3600, width: 2)
        bytes.append(UInt8(ascii: ":"))
        bytes.append(decimal: clock / 60 % 60, width: 2)
        bytes.append(UInt8(ascii: ":"))
        bytes.append(decimal: clock % 60, width: 2)
        let milliseconds = (self.microseconds - seconds * 1_000_000) / 1000
        if milliseconds != 0 {
            bytes.append(UInt8(ascii: "."))
            bytes.append(decimal: milliseconds, width: 3)
        }
        bytes.append(UInt8(ascii: "Z"))
    }

    /// RFC 3339 `date-time`, with any offset, years 0001 to 9999 (as written, and in UTC). Nil for anything else. A leap second counts as the next second.
    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20, bytes.count <= 40 else { return nil }
        func number(_ from: Int, _ count: Int) -> Int64? {
            var value: Int64 = 0
            for index in from..<(from + count) {
                guard index < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[index]) else { return nil }
                value = value * 10 + Int64(bytes[index] - UInt8(ascii: "0"))
            }
            return value
        }
        func mark(_ index: Int, _ characters: String) -> Bool { characters.utf8.contains(bytes[index]) }
        guard let year = number(0, 4), mark(4, "-"), let month = number(5, 2), mark(7, "-"), let day = number(8, 2), mark(10, "Tt "),
            let hour = number(11, 2), mark(13, ":"), let minute = number(14, 2), mark(16, ":"), let second = number(17, 2),
            year > 0, (1...12).contains(month), (1...Self.days(in: month, of: year)).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        var at = 19
        var fraction: Int64 = 0
        if mark(at, ".") {
            at += 1
            var unit: Int64 = 100_000
            let start = at
            while at < bytes.count, let digit = number(at, 1) {
                fraction += digit * unit
                unit /= 10
                at += 1
            }
            if at == start { return nil }
        }
        guard at < bytes.count else { return nil }
        var offset: Int64 = 0
        if mark(at, "Zz") {
            at += 1
        } else if mark(at, "+-") {
            guard at + 6 <= bytes.count, let hours = number(at + 1, 2), mark(at + 3, ":"), let minutes = number(at + 4, 2), hours < 24, minutes < 60
            else { return nil }
            offset = (hours * 60 + minutes) * (mark(at, "-") ? -60 : 60)
            at += 6
        } else {
            return nil
        }
        guard at == bytes.count else { return nil }
        let seconds = Self.daysSince1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset
        guard seconds >= Self.daysSince1970(1, 1, 1) * 86_400, seconds < Self.daysSince1970(10_000, 1, 1) * 86_400 else { return nil }
        self.microseconds = seconds * 1_000_000 + fraction
    }

    // Days and civil dates of the proleptic Gregorian calendar, counted from 1 March of year 0, so that a leap day ends a year.

    private static func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = shifted.flooredDivision(by: 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }

    private static func daysSince1970(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let era = year.flooredDivision(by: 400)
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func days(in month: Int64, of year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

extension Int64 {
    fileprivate func flooredDivision(by divisor: Int64) -> Int64 {
        let (quotient, remainder) = self.quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

extension [UInt8] {
    /// Appends a number in decimal, with no allocation.
    package mutating func append(decimal value: Int64, width: Int = 1) {
        if width == 2, (0..<100).contains(value) {
            self.append(UInt8(ascii: "0") + UInt8(value / 10))
            self.append(UInt8(ascii: "0") + UInt8(value % 10))
            return
        }
        var magnitude = value.magnitude
        if value < 0 { self.append(UInt8(ascii: "-")) }
        let start = self.count
        var digits = 0
        repeat {
            self.append(UInt8(ascii: "0") + UInt8(magnitude % 10))
            magnitude /= 10
            digits += 1
        } while magnitude > 0 || digits < width
        self[start...].reverse()
    }

    @inline(__always)
    package mutating func append(ascii text: StaticString) {
        text.withUTF8Buffer { self.append(contentsOf: $0) }
    }
}
