import Testing

@testable import carillon_loadtest

@Suite("Programs that are run")
struct SubprocessTests {
    private func run(_ script: String, environment: [String: String]? = nil, seconds: Double? = nil) throws -> (status: Int32, text: String) {
        var bytes: [UInt8] = []
        let status = try Subprocess.run("sh", ["-c", script], environment: environment, seconds: seconds) { bytes.append(contentsOf: $0) }
        return (status, String(decoding: bytes, as: UTF8.self))
    }

    @Test("the output and the status come back")
    func output() throws {
        #expect(try run("echo a; echo b; exit 3") == (3, "a\nb\n"))
        #expect(try run("echo $X", environment: ["X": "1 2", "PATH": "/usr/bin:/bin"]).text == "1 2\n")
        #expect(try run("kill -KILL $$").status == 128 + 9)
        #expect(try run("head -c 300000 /dev/zero").text.utf8.count == 300_000)
    }

    @Test("it inherits no blocked and no ignored signal, whatever thread starts it")
    func signals() throws {
        let lines = try run("grep -E 'SigBlk|SigIgn' /proc/self/status").text.split(separator: "\n").map { $0.split(separator: "\t").last }
        #expect(lines.count == 2)
        // Real-time signals of the C library, 32 and 33, cannot be told.
        for line in lines { #expect(UInt64(line ?? "", radix: 16).map { $0 & 0x7fff_ffff } == 0) }
    }

    @Test("what takes too long is ended, and what is not there is an error")
    func failures() throws {
        #expect(try run("exec sleep 600", seconds: 0.05).status == 128 + 15)
        #expect(throws: LoadtestError.self) { try Subprocess.run("/nonexistent", []) { _ in } }
    }
}
