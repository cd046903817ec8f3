import Testing

@testable import NotificationCore

@Suite("when gathered e-mails go out")
struct DigestTimeTests {
    @Test(
        "an hourly one at the next full hour, a daily one at the next eight o'clock of its reader, also when the clocks are changed",
        arguments: [
            (Catalogue.Digest.hourly, "2026-01-15T10:00:00Z", "UTC", "2026-01-15T11:00:00Z"), (.hourly, "2026-01-15T10:59:59Z", "UTC", "2026-01-15T11:00:00Z"),
            (.daily, "2026-01-15T07:59:59Z", "UTC", "2026-01-15T08:00:00Z"), (.daily, "2026-01-15T08:00:00Z", "UTC", "2026-01-16T08:00:00Z"),
            (.daily, "2026-01-15T10:00:00Z", "America/New_York", "2026-01-15T13:00:00Z"), (.daily, "2026-01-15T10:00:00Z", "Asia/Tokyo", "2026-01-15T23:00:00Z"),
            (.daily, "2026-03-28T10:00:00Z", "Europe/Paris", "2026-03-29T06:00:00Z"), (.daily, "2026-10-24T10:00:00Z", "Europe/Paris", "2026-10-25T07:00:00Z"),
        ])
    func times(digest: Catalogue.Digest, now: String, zone: String, expected: String) throws {
        let next = DigestTime.next(digest, after: try #require(Timestamp(now)), zone: try #require(TimeZoneName(zone)))
        #expect(next?.description == expected)
    }

    @Test("what is not gathered has no time")
    func immediate() { #expect(DigestTime.next(.immediate, after: Timestamp(seconds: 0), zone: .utc) == nil) }
}
