import Authentication
import Foundation
import Testing

@Suite("Key sets from a server")
struct KeyServerTests {
    @Test("the first token fetches the keys, and later ones use them", arguments: TestKey.all)
    func firstToken(_ key: TestKey) async throws {
        try await KeyServer.with(.answer(try keySet([key.jwk("k")]))) { server in
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url))
            #expect(!verifier.keysAvailable)
            #expect(try await verifier.verify(key.token(keyID: "k")).user == "ada")
            #expect(try await verifier.verify(key.token(payload: #"{"sub":"bob","exp":1800000600}"#, keyID: "k")).user == "bob")
            #expect(verifier.keysAvailable)
            #expect(server.requests == 1)
        }
    }

    @Test("a new kid is accepted as soon as it is published, and unknown ones fetch at most once in 10 seconds")
    func rotation() async throws {
        let (old, new) = (TestKey.makeEd25519(), TestKey.makeEd25519())
        try await KeyServer.with(.answer(try keySet([old.jwk("old")]))) { server in
            let time = TestTime()
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url), time: time)
            #expect(try await verifier.verify(old.token(keyID: "old")).user == "ada")
            server.behaviour = .answer(try keySet([old.jwk("old"), new.jwk("new")]))

            time.advance(by: 9)
            #expect(await outcome(verifier, try new.token(keyID: "new")) == .failure(.unknownKey))
            #expect(server.requests == 1)
            time.advance(by: 1)
            #expect(try await verifier.verify(new.token(keyID: "new")).user == "ada")
            #expect(try await verifier.verify(old.token(keyID: "old")).user == "ada")
            #expect(server.requests == 2)
            for attempt in 0..<20 {
                #expect(await outcome(verifier, try new.token(keyID: "random-\(attempt)")) == .failure(.unknownKey))
            }
            #expect(server.requests == 2)
            // A clock that was set back must not stop refreshing for as long.
            time.advance(by: -5000)
            #expect(await outcome(verifier, try new.token(keyID: "random")) == .failure(.unknownKey))
            #expect(server.requests == 3)
        }
    }

    @Test("keys seen before stay valid when the server is gone, and a key that was not is not known to be bad")
    func serverGone() async throws {
        try await KeyServer.with(.answer(try keySet([TestKey.p256.jwk("k")]))) { server in
            let time = TestTime()
            let log = LogCapture()
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url), time: time, log: log)
            #expect(try await verifier.verify(TestKey.p256.token(keyID: "k")).user == "ada")
            try await server.stop()
            time.advance(by: 60)
            #expect(await outcome(verifier, try TestKey.p256.token(keyID: "other")) == .failure(.keysUnavailable))
            #expect(await outcome(verifier, try TestKey.p256.token(keyID: "another")) == .failure(.keysUnavailable))
            #expect(try await verifier.verify(TestKey.p256.token(payload: #"{"sub":"bob","exp":1800000600}"#, keyID: "k")).user == "bob")
            #expect(await outcome(verifier, try TestKey.makeP256().token(keyID: "k")) == .failure(.badSignature))
            #expect(verifier.keysAvailable)
            #expect(verifier.statistics.keyRefreshes == 1)
            #expect(verifier.statistics.keyRefreshFailures == 1)
            #expect(log.lines.contains { $0.hasPrefix("warning") && $0.contains("CARILLON_JWT_JWKS") })
        }
    }

    @Test("with keys that were never reached no token is known to be bad, but a malformed one is")
    func neverReached() async throws {
        let server = try await KeyServer.start(.silent)
        let url = server.url
        try await server.stop()
        let verifier = try makeVerifier(TokenConfiguration(jwks: url))
        #expect(!verifier.keysAvailable)
        for key in TestKey.all { #expect(await outcome(verifier, try key.token(keyID: "k")) == .failure(.keysUnavailable)) }
        #expect(await outcome(verifier, "x.y.z") == .failure(.malformed))
        #expect(await outcome(verifier, RawToken.hs256(Fixture.payload)) == .failure(.algorithmNotAllowed))
        #expect(!verifier.keysAvailable)
    }

    @Test("a secret works while the keys are out of reach")
    func secretBeside() async throws {
        try await KeyServer.with(.status(500)) { server in
            let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret, jwks: server.url))
            #expect(verifier.keysAvailable)
            #expect(try verifier.verifySynchronously(RawToken.hs256(Fixture.payload))?.user == "ada")
            #expect(await outcome(verifier, try TestKey.rsa.token(keyID: "k")) == .failure(.keysUnavailable))
        }
    }

    @Test("a server that never answers is given up")
    func silent() async throws {
        try await KeyServer.with(.silent) { server in
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url), fetchTimeout: .milliseconds(50))
            #expect(await outcome(verifier, try TestKey.rsa.token(keyID: "k")) == .failure(.keysUnavailable))
        }
    }

    enum BadAnswer: CaseIterable, Sendable {
        case notFound, redirect, noJSON, tooLarge, tooManyKeys, noKeys
    }

    @Test("an answer that is no bounded key set changes nothing", arguments: BadAnswer.allCases)
    func badAnswers(_ kind: BadAnswer) async throws {
        let good = try keySet([TestKey.p256.jwk("k")])
        try await KeyServer.with(.answer(good)) { elsewhere in
            let behaviour: KeyServer.Behaviour =
                switch kind {
                case .notFound: .status(404)
                case .redirect: .redirect(elsewhere.url)
                case .noJSON: .answer("<html>")
                case .tooLarge: .answer(good + String(repeating: " ", count: 1024 * 1024))
                case .tooManyKeys: .answer(try keySet((0...100).map { TestKey.p256.jwk($0 == 0 ? "k" : "k\($0)") }))
                case .noKeys: .answer(#"{"keys":[{"kty":"oct","kid":"k","k":"AAAA"}]}"#)
                }
            try await KeyServer.with(behaviour) { server in
                let verifier = try makeVerifier(TokenConfiguration(jwks: server.url))
                #expect(await outcome(verifier, try TestKey.p256.token(keyID: "k")) == .failure(.keysUnavailable))
                #expect(!verifier.keysAvailable)
                #expect(elsewhere.requests == 0)
            }
        }
    }

    @Test("a set of exactly 100 keys is read")
    func manyKeys() async throws {
        try await KeyServer.with(.answer(try keySet((1...100).map { TestKey.p256.jwk("k\($0)") }))) { server in
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url))
            #expect(try await verifier.verify(TestKey.p256.token(keyID: "k100")).user == "ada")
        }
    }

    @Test("many tokens at once share one fetch")
    func singleFlight() async throws {
        try await KeyServer.with(.answer(try keySet([TestKey.p256.jwk("k")]))) { server in
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url))
            await withTaskGroup(of: Result<UserToken, TokenRejection>.self) { group in
                for number in 0..<50 {
                    group.addTask {
                        do {
                            return await outcome(verifier, try TestKey.p256.token(payload: #"{"sub":"u\#(number)","exp":1800000600}"#, keyID: "k"))
                        } catch {
                            return .failure(.malformed)
                        }
                    }
                }
                for await result in group { #expect(throws: Never.self) { try result.get() } }
            }
            #expect(server.requests == 1)
        }
    }

    @Test("the loop reads the keys at once, every 5 minutes, after a failure every 5 seconds, and returns when cancelled")
    func loop() async throws {
        let (old, new) = (TestKey.makeP256(), TestKey.makeP256())
        try await KeyServer.with(.answer(try keySet([old.jwk("k")]))) { server in
            let clock = StepClock()
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url), clock: clock)
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await verifier.run() }
                var sleeps = clock.sleeps.makeAsyncIterator()
                #expect(await sleeps.next() == .seconds(300))
                #expect(verifier.keysAvailable)
                #expect(server.requests == 1)

                server.behaviour = .status(503)
                clock.wake()
                #expect(await sleeps.next() == .seconds(5))
                #expect(server.requests == 2)

                server.behaviour = .answer((try? keySet([new.jwk("k")])) ?? "")
                clock.wake()
                #expect(await sleeps.next() == .seconds(300))
                #expect(server.requests == 3)
                group.cancelAll()
            }
            #expect(try await verifier.verify(new.token(keyID: "k")).user == "ada")
            #expect(server.requests == 3)
        }
    }

    @Test("the loop returns when cancelled in the middle of a fetch, and blames nobody")
    func cancelledFetch() async throws {
        try await KeyServer.with(.silent) { server in
            let log = LogCapture()
            let verifier = try makeVerifier(TokenConfiguration(jwks: server.url), log: log, fetchTimeout: .seconds(3600))
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await verifier.run() }
                for await _ in server.arrivals { break }
                group.cancelAll()
            }
            #expect(log.lines.isEmpty)
        }
    }

    @Test("without a key set the loop only waits")
    func nothingToRefresh() async throws {
        let clock = StepClock()
        let verifier = try makeVerifier(TokenConfiguration(secret: Fixture.secret), clock: clock)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await verifier.run() }
            for await _ in clock.sleeps { break }
            group.cancelAll()
        }
        #expect(verifier.statistics.keyRefreshes == 0)
    }
}
