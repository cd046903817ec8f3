import NotificationCore
import SeededRandom
import Testing

@Suite("times")
struct TimestampTests {
    @Test(
        "RFC 3339 is read",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01t00:00:00z", 0), ("1970-01-01 00:00:00Z", 0), ("1969-12-31T23:59:59Z", -1_000_000),
            ("2026-11-21T10:30:00Z", 1_795_257_000_000_000), ("2026-11-21T12:30:00+02:00", 1_795_257_000_000_000),
            ("2026-11-21T05:00:00-05:30", 1_795_257_000_000_000), ("2026-11-21T10:30:00-00:00", 1_795_257_000_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000), ("2024-02-29T12:00:00Z", 1_709_208_000_000_000), ("1970-01-01T00:00:00.1Z", 100_000),
            ("1970-01-01T00:00:00.123456Z", 123_456), ("1970-01-01T00:00:00.123456789Z", 123_456), ("1970-01-01T00:00:00.0000001+00:00", 0),
            ("1969-12-31T23:59:59.5Z", -500_000), ("2016-12-31T23:59:60Z", 1_483_228_800_000_000), ("1970-01-01T23:59:59+23:59", 59_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000), ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
            ("1900-03-01T00:00:00Z", -2_203_891_200_000_000), ("2100-03-01T00:00:00Z", 4_107_542_400_000_000),
        ] as [(String, Int64)])
    func reads(_ text: String, _ microseconds: Int64) {
        #expect(Timestamp(text)?.microseconds == microseconds)
    }

    @Test(
        "anything else is not",
        arguments: [
            "", "now", "2026-11-21", "2026-11-21T10:30:00", "2026-11-21T10:30Z", "2026-11-21T10:30:00.Z", "2026-11-21T10:30:00,5Z", "2026-11-21T10:30:00+0200",
            "2026-11-21T10:30:00+02", "2026-11-21T10:30:00+02:00 ", " 2026-11-21T10:30:00Z", "2026-11-21T10:30:00ZZ", "2026-11-21T10:30:00Z+02:00",
            "2026-11-21T24:00:00Z", "2026-11-21T10:60:00Z", "2026-11-21T10:30:61Z", "2026-13-21T10:30:00Z", "2026-00-21T10:30:00Z", "2026-11-31T10:30:00Z",
            "2026-11-00T10:30:00Z", "2026-02-29T10:30:00Z", "1900-02-29T10:30:00Z", "2100-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "2026-11-21T10:30:00+24:00",
            "2026-11-21T10:30:00+02:60", "2026-11-21T10:30:00+02:00:00", "+026-11-21T10:30:00Z", "-026-11-21T10:30:00Z", "２026-11-21T10:30:00Z",
            "2026/11/21T10:30:00Z", "2026-11-21_10:30:00Z", "12026-11-21T10:30:00Z", "2026-11-21T10:30:00.1234567890123456789012Z", "2026-11-21T10:30:00.é",
            "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:00-00:01", "9999-12-31T23:59:60Z", "2026-11-21T10:30:00+", "2026-11-21T10:30:00.1", "2026-11-21T10:30:0aZ",
        ])
    func refuses(_ text: String) {
        #expect(Timestamp(text) == nil)
    }

    @Test(
        "times are written in UTC, with milliseconds only where there are any",
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (999, "1970-01-01T00:00:00Z"), (1000, "1970-01-01T00:00:00.001Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (-1_000_000, "1969-12-31T23:59:59Z"), (951_782_400_000_000, "2000-02-29T00:00:00Z"), (1_795_257_000_000_000, "2026-11-21T10:30:00Z"),
            (1_795_257_000_050_000, "2026-11-21T10:30:00.050Z"), (-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999Z"), (4_107_455_999_000_000, "2100-02-27T23:59:59Z"),
        ] as [(Int64, String)])
    func writes(_ microseconds: Int64, _ text: String) {
        #expect(Timestamp(microseconds: microseconds).description == text)
    }

    @Test("every day from 1600 to 2400 follows the day before and is read as written")
    func everyDay() {
        var day = Timestamp("1600-01-01T00:00:00Z")!.seconds / 86_400
        var months: [Int64] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        var wrong = 0
        for year in Int64(1600)..<2400 {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
            months[1] = leap ? 29 : 28
            for month in 1...12 {
                for date in [1, 15, months[month - 1]] {
                    func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : "\(value)" }
                    let text = "\(year)-\(two(Int64(month)))-\(two(date))T00:00:00Z"
                    let expected = Timestamp(seconds: (day + date - 1) * 86_400)
                    if Timestamp(text) != expected || expected.description != text { wrong += 1 }
                }
                day += months[month - 1]
            }
        }
        #expect(wrong == 0)
    }

    @Test("any millisecond is read as it was written")
    func roundTrip() {
        var random = SeededGenerator(seed: 2)
        for _ in 0..<5000 {
            let milliseconds = -62_135_596_800_000 + Int64(random.next() % 315_537_897_600_000)
            let time = Timestamp(microseconds: milliseconds * 1000)
            #expect(Timestamp(time.description) == time)
        }
    }

    @Test("times are ordered, and seconds are rounded down")
    func order() {
        #expect(Timestamp(microseconds: -1) < Timestamp(microseconds: 0))
        #expect(Timestamp(microseconds: -1).seconds == -1)
        #expect(Timestamp(microseconds: 1_999_999).seconds == 1)
        #expect(Timestamp(seconds: 5).microseconds == 5_000_000)
        #expect(Timestamp.now() > Timestamp("2024-01-01T00:00:00Z")!)
    }

    @Test("seconds beyond all times are the last moment that there is", arguments: [9_999_999_999_999, 1 << 53, Int64.max, -(1 << 53), Int64.min])
    func far(seconds: Int64) {
        let time = Timestamp(seconds: seconds)
        #expect(time.seconds == (seconds < 0 ? -1 : 1) * (Int64.max / 1_000_000))
        #expect(!time.description.isEmpty)
    }
}
