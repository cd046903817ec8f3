import ArgumentParser
import Foundation
import Testing

@testable import carillon_loadtest

@Suite("Command line")
struct CommandTests {
    @Test("only loopback is a target, unless more is allowed", arguments: [
        ("http://127.0.0.1:8080", true), ("http://127.9.8.7", true), ("http://localhost:1", true), ("http://[::1]:80", true), ("http://10.0.0.1:80", false),
        ("http://128.0.0.1", false), ("http://example.org", false), ("http://localhost.example.org", false), ("http://0.0.0.0:80", false),
    ])
    func loopback(example: (String, Bool)) {
        if example.1 {
            #expect(throws: Never.self) { try Target(example.0, allowRemote: false) }
        } else {
            #expect(throws: LoadtestError.self) { try Target(example.0, allowRemote: false) }
        }
    }

    @Test("a remote address is accepted when asked for")
    func remote() throws {
        #expect(try Target("http://10.0.0.1:8080", allowRemote: true).hostHeader == "10.0.0.1:8080")
    }

    @Test("what is no target is refused", arguments: ["", "127.0.0.1:80", "https://127.0.0.1", "http://127.0.0.1/path", "http://127.0.0.1:99999", "http://u@127.0.0.1"])
    func noTarget(url: String) {
        #expect(throws: LoadtestError.self) { try Target(url, allowRemote: true) }
    }

    @Test("exported values are unquoted as a shell does")
    func exports() {
        let text = """
            export A=plain
            export B='a b'
            export C="x \\"y\\" \\n"
            export D='it'\\''s'
            export E=a\\ b
            export F=
            not an export
            export G='p=q r=s'
            """
        #expect(
            ClusterEnvironment.exports(text) == ["A": "plain", "B": "a b", "C": "x \"y\" \\n", "D": "it's", "E": "a b", "F": "", "G": "p=q r=s"]
        )
    }

    @Test("a minted token names its user, whatever the name", arguments: ["u1", "{}/%:😀", "a\"b\\c"])
    func tokens(user: String) throws {
        let token = TokenMint.mint(user: user, secret: "secret", issuer: "i", audience: nil, seconds: 60)
        #expect(TokenMint.subject(of: token) == user)
        #expect(try TokenMint.users(fromLines: token + "\n\n", count: 1).first?.name == user)
    }

    @Test("a minted token carries the signature of RFC 7515")
    func signature() {
        let token = TokenMint.mint(user: "u", secret: "s", issuer: nil, audience: nil, now: Date(timeIntervalSince1970: 0), seconds: 60)
        #expect(token == "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1IiwiaWF0IjowLCJleHAiOjYwfQ.iFzHbWTomstTxn-Lkhj23P47hnq9tQCYR-dMVUpM8dI")
    }

    @Test("too few tokens, and lines that are none, are wrong usage", arguments: ["", "a.b", "a.b.c\nd.e.f"])
    func badTokens(text: String) {
        #expect(throws: LoadtestError.self) { try TokenMint.users(fromLines: text, count: 2) }
    }

    private func plan(connections: Int, users: Int) throws -> RunPlan {
        let target = try Target("http://127.0.0.1:1", allowRemote: false)
        return try RunPlan(
            runID: "r", targets: [target], publishTargets: [target], apiKey: "k", users: (0..<users).map { RunPlan.User(name: "u\($0)", token: "t") },
            connections: connections
        )
    }

    @Test("ten streams a user are the most", arguments: [(10, 1, true), (11, 1, false), (100, 10, true), (5, 6, false), (1, 0, false), (0, 0, false)])
    func streamsPerUser(example: (Int, Int, Bool)) {
        let accepted = (try? plan(connections: example.0, users: example.1)) != nil
        #expect(accepted == example.2)
    }

    @Test("more streams than ports use several source addresses")
    func sources() throws {
        #expect(try plan(connections: 20_000, users: 20_000).source(ofStream: 19_999) == nil)
        let large = try plan(connections: 40_000, users: 40_000)
        #expect(large.source(ofStream: 0) == "127.0.0.1")
        #expect(large.source(ofStream: 20_000) == "127.0.0.2")
    }

    @Test("file descriptors must suffice with a reserve")
    func descriptors() {
        #expect(FileDescriptorLimit.fits(900, limit: 1_024))
        #expect(!FileDescriptorLimit.fits(1_000, limit: 1_024))
        #expect(throws: LoadtestError.self) { try FileDescriptorLimit.require(2_000_000_000) }
    }

    @Test("the memory of a process is read in bytes")
    func memory() throws {
        #expect(ProcessMemory.kilobytes("VmRSS", "VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n") == 1_234 * 1_024)
        #expect(ProcessMemory.kilobytes("Pss", "Pss_Dirty: 1 kB\n") == nil)
        #expect(try ProcessMemory.of(ProcessInfo.processInfo.processIdentifier).resident > 0)
    }

    @Test("a report does not show secrets")
    func redacted() {
        #expect(["x", "--api-key", "ck_1", "--jwt-secret=s", "--rate", "1"].redacted == ["x", "--api-key", "…", "--jwt-secret=…", "--rate", "1"])
    }

    @Test("wrong words on the command line are refused by the parser", arguments: [["run"], ["run", "--connections", "x"], ["run", "--publish", "carrier-pigeon"]])
    func usage(arguments: [String]) {
        #expect(throws: (any Error).self) { try Loadtest.parseAsRoot(arguments) }
    }
}
