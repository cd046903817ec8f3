import NotificationCore
import Testing

@Suite("places in the log")
struct LogPositionTests {
    @Test("they are read and written as Postgres writes them", arguments: [("0/0", 0), ("0/1A", 26), ("16/B374D848", 0x16_B374_D848)] as [(String, UInt64)])
    func text(text: String, number: UInt64) {
        #expect(LogPosition(timeline: 1, lsn: text) == LogPosition(timeline: 1, lsn: number))
        #expect(LogPosition(timeline: 1, lsn: number).text == text)
    }

    @Test("what is no place in the log is none", arguments: ["", "/", "1", "1/", "1/2/3", "G/1", "100000000/0", "0/100000000", "/1", "1//2"])
    func noPlace(text: String) {
        #expect(LogPosition(timeline: 1, lsn: text) == nil)
    }
}
