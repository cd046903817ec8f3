import SeededRandom
import Testing

@testable import NotificationCore

@Suite("Quiet hours")
struct QuietHoursTests {
    private static func hours(_ start: String, _ end: String, _ zone: String?) throws -> QuietHours {
        let zone = try zone.map { try #require(TimeZoneName($0)) }
        let (first, last) = (try #require(TimeOfDay.parse(start)), try #require(TimeOfDay.parse(end)))
        return try #require(QuietHours(start: first, end: last, zone: zone))
    }

    @Test(
        "they are on by the clocks of their zone, and over when those show the end",
        arguments: [
            // Over midnight, in winter and summer.
            ("22:00", "07:00", "Europe/Paris", "2026-01-15T20:59:59Z", nil),
            ("22:00", "07:00", "Europe/Paris", "2026-01-15T21:00:00Z", "2026-01-16T06:00:00Z"),
            ("22:00", "07:00", "Europe/Paris", "2026-01-16T05:59:59.999Z", "2026-01-16T06:00:00Z"),
            ("22:00", "07:00", "Europe/Paris", "2026-01-16T06:00:00Z", nil),
            ("22:00", "07:00", "Europe/Paris", "2026-07-15T20:30:00Z", "2026-07-16T05:00:00Z"),
            // Within a day.
            ("12:00", "14:00", "UTC", "2026-01-15T13:59:59Z", "2026-01-15T14:00:00Z"),
            ("12:00", "14:00", "UTC", "2026-01-15T14:00:00Z", nil),
            ("00:00", "23:59", "UTC", "2026-01-15T23:59:30Z", nil),
            ("00:00", "23:59", "UTC", "2026-01-15T00:00:00Z", "2026-01-15T23:59:00Z"),
            // Odd offsets.
            ("22:00", "06:00", "Asia/Kathmandu", "2026-01-15T16:15:00Z", "2026-01-16T00:15:00Z"),
            ("22:00", "06:00", "Pacific/Kiritimati", "2026-01-15T07:59:00Z", nil),
            ("22:00", "06:00", "America/St_Johns", "2026-01-15T01:30:00Z", "2026-01-15T09:30:00Z"),
            // The night of 29 March 2026 has an hour less in Paris: 02:00 is followed by 03:00, at 01:00 UTC.
            ("22:00", "07:00", "Europe/Paris", "2026-03-28T22:00:00Z", "2026-03-29T05:00:00Z"),
            ("22:00", "02:30", "Europe/Paris", "2026-03-28T22:00:00Z", "2026-03-29T01:00:00Z"),
            ("02:00", "03:00", "Europe/Paris", "2026-03-29T00:59:59Z", nil),
            ("02:00", "03:00", "Europe/Paris", "2026-03-29T01:00:00Z", nil),
            // The night of 25 October 2026 has an hour more: 03:00 is followed by 02:00, at 01:00 UTC.
            ("22:00", "07:00", "Europe/Paris", "2026-10-24T22:00:00Z", "2026-10-25T06:00:00Z"),
            ("22:00", "02:30", "Europe/Paris", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z"),
            ("22:00", "02:30", "Europe/Paris", "2026-10-25T00:45:00Z", nil),
            ("22:00", "02:30", "Europe/Paris", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"),
            ("02:15", "02:45", "Europe/Paris", "2026-10-25T00:20:00Z", "2026-10-25T00:45:00Z"),
            // Samoa had no 30 December 2011: after the 29th came the 31st, at 10:00 UTC.
            ("23:00", "12:00", "Pacific/Apia", "2011-12-30T09:30:00Z", "2011-12-30T22:00:00Z"),
        ])
    func on(_ start: String, _ end: String, _ zone: String, _ now: String, _ until: String?) throws {
        let hours = try Self.hours(start, end, zone)
        let moment = try #require(Timestamp(now))
        #expect(hours.end(at: moment, defaultZone: nil)?.description == until)
        // Said of another place, with the zone from the contact.
        #expect(try Self.hours(start, end, nil).end(at: moment, defaultZone: TimeZoneName(zone))?.description == until)
    }

    @Test("without a zone anywhere it is UTC; one's own counts before the contact's")
    func defaults() throws {
        let moment = try #require(Timestamp("2026-01-15T22:30:00Z"))
        #expect(try Self.hours("22:00", "23:00", nil).end(at: moment, defaultZone: nil)?.description == "2026-01-15T23:00:00Z")
        #expect(try Self.hours("22:00", "23:00", "UTC").end(at: moment, defaultZone: TimeZoneName("Asia/Tokyo")) != nil)
        #expect(try Self.hours("22:00", "23:00", nil).end(at: moment, defaultZone: TimeZoneName("Asia/Tokyo")) == nil)
    }

    @Test("at any moment of a year, minute by minute of the walls, the answer is the first moment at which they are not on", arguments: ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"])
    func random(_ name: String) throws {
        let zone = try #require(TimeZoneName(name))
        var generator = SeededGenerator(seed: 7)
        func isOn(_ hours: QuietHours, _ second: Int64) -> Bool {
            let minute = Int(((second + zone.offset(at: second)) % 86_400) / 60)
            return hours.start < hours.end ? minute >= hours.start && minute < hours.end : minute >= hours.start || minute < hours.end
        }
        let year = Timestamp("2026-01-01T00:00:00Z")!.seconds
        for round in 0..<80 {
            let (start, end) = (generator.below(1440), generator.below(1440))
            guard let hours = QuietHours(start: start, end: end, zone: zone) else { continue }
            // Every other one close to a change of the clocks.
            let near = Timestamp(["2026-03-28T20:00:00Z", "2026-10-24T18:00:00Z", "2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z", "2026-04-04T09:00:00Z"][round % 5])!.seconds
            let now = round % 2 == 0 ? year + Int64(generator.below(365 * 86_400)) : near + Int64(generator.below(12 * 3600))
            let answer = hours.end(at: Timestamp(seconds: now), defaultZone: nil)
            #expect((answer != nil) == isOn(hours, now))
            guard let until = answer?.seconds else { continue }
            #expect(until > now && !isOn(hours, until) && isOn(hours, until - 1))
            var minute = now
            while minute < until {
                #expect(isOn(hours, minute))
                minute += 60
            }
        }
    }

    @Test(
        "names of the IANA database are zones, also its old ones; anything else is not",
        arguments: [
            ("Europe/Paris", true), ("Asia/Calcutta", true), ("US/Eastern", true), ("America/Argentina/Buenos_Aires", true), ("Etc/GMT+3", true), ("UTC", true), ("GB", true),
            ("", false), ("Europe", false), ("europe/paris", false), ("PST", false), ("GMT+3", false), ("UTC+3", false), ("+03:00", false), ("Europe/Paris ", false),
            ("SystemV/AST4", false), ("Etc/Unknown", false), ("../etc/passwd", false), ("/etc/localtime", false), ("Europe/Paris\u{0}", false),
        ])
    func zones(_ name: String, _ isZone: Bool) {
        #expect((TimeZoneName(name) != nil) == isZone)
        #expect(TimeZoneName(name).map(\.identifier) == (isZone ? name : nil))
    }
}
