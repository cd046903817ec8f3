import Authentication
import Testing

@Suite("Claims")
struct ClaimsTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let payload: String
        let rejection: TokenRejection?
        var testDescription: String { String(payload.prefix(120)) }

        init(_ payload: String, _ rejection: TokenRejection? = nil) {
            self.payload = payload
            self.rejection = rejection
        }
    }

    private func reading(_ payload: String, configuration: TokenConfiguration = .init(secret: Fixture.secret)) throws -> UserToken? {
        try makeVerifier(configuration).verifySynchronously(RawToken.hs256(payload))
    }

    @Test(
        "exp and nbf bound the token's life",
        arguments: [
            Case(#"{"sub":"a","exp":1800000001}"#),
            Case(#"{"sub":"a","exp":1800000000}"#, .expired),
            Case(#"{"sub":"a","exp":1800000000.9}"#, .expired),
            Case(#"{"sub":"a","exp":1800000001.5}"#),
            Case(#"{"sub":"a","exp":1.8000006e9}"#),
            Case(#"{"sub":"a","exp":0}"#, .expired),
            Case(#"{"sub":"a","exp":-5}"#, .expired),
            Case(#"{"sub":"a"}"#, .missingExpiry),
            Case(#"{"sub":"a","exp":null}"#, .malformed),
            Case(#"{"sub":"a","exp":"1800000600"}"#, .malformed),
            Case(#"{"sub":"a","exp":true}"#, .malformed),
            Case(#"{"sub":"a","exp":[1800000600]}"#, .malformed),
            Case(#"{"sub":"a","exp":1e300}"#, .malformed),
            Case(#"{"sub":"a","exp":1e999}"#, .malformed),
            Case(#"{"sub":"a","exp":-1e300}"#, .malformed),
            Case(#"{"sub":"a","exp":9223372036854775807}"#, .malformed),
            Case(#"{"sub":"a","exp":1800000600,"nbf":1800000000}"#),
            Case(#"{"sub":"a","exp":1800000600,"nbf":1800000000.5}"#, .notYetValid),
            Case(#"{"sub":"a","exp":1800000600,"nbf":1800000001}"#, .notYetValid),
            Case(#"{"sub":"a","exp":1800000600,"nbf":"soon"}"#, .malformed),
            Case(#"{"sub":"a","exp":1800000600,"nbf":1e300}"#, .malformed),
        ]
    )
    func times(_ given: Case) throws {
        if let rejection = given.rejection {
            #expect(throws: rejection) { try reading(given.payload) }
        } else {
            #expect(try reading(given.payload)?.user == "a")
        }
    }

    @Test("the leeway applies to both ends and does not change what the token says")
    func leeway() throws {
        let configuration = TokenConfiguration(secret: Fixture.secret, leeway: 10)
        #expect(try reading(#"{"sub":"a","exp":1799999991,"nbf":1800000010}"#, configuration: configuration)?.expiresAt == 1_799_999_991)
        #expect(throws: TokenRejection.expired) { try reading(#"{"sub":"a","exp":1799999990}"#, configuration: configuration) }
        #expect(throws: TokenRejection.notYetValid) {
            try reading(#"{"sub":"a","exp":1800000600,"nbf":1800000011}"#, configuration: configuration)
        }
    }

    @Test(
        "iss and aud must be the configured ones",
        arguments: [
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id","aud":"carillon"}"#),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id","aud":["web","carillon"]}"#),
            Case(#"{"sub":"a","exp":1800000600,"aud":"carillon"}"#, .wrongIssuer),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id/","aud":"carillon"}"#, .wrongIssuer),
            Case(#"{"sub":"a","exp":1800000600,"iss":["https://id"],"aud":"carillon"}"#, .wrongIssuer),
            Case(#"{"sub":"a","exp":1800000600,"iss":null,"aud":"carillon"}"#, .wrongIssuer),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id"}"#, .wrongAudience),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id","aud":"Carillon"}"#, .wrongAudience),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id","aud":[]}"#, .wrongAudience),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id","aud":["carillon",1]}"#, .wrongAudience),
            Case(#"{"sub":"a","exp":1800000600,"iss":"https://id","aud":{"carillon":true}}"#, .wrongAudience),
        ]
    )
    func issuerAndAudience(_ given: Case) throws {
        let configuration = TokenConfiguration(secret: Fixture.secret, issuer: "https://id", audience: "carillon")
        if let rejection = given.rejection {
            #expect(throws: rejection) { try reading(given.payload, configuration: configuration) }
        } else {
            #expect(try reading(given.payload, configuration: configuration)?.user == "a")
        }
    }

    @Test("iss and aud of any kind pass where none is configured")
    func unconfigured() throws {
        #expect(try reading(#"{"sub":"a","exp":1800000600,"iss":1,"aud":{"x":1}}"#)?.user == "a")
    }

    @Test(
        "possible ids of users are taken as they are",
        arguments: ["a", "{}", "a/b", "100%", "a:b", "🦉", "👩‍👩‍👧", " ", "\u{202E}x", String(repeating: "é", count: 128), String(repeating: "🦉", count: 128)]
    )
    func possibleSubjects(_ user: String) throws {
        #expect(try reading(#"{"sub":"\#(user)","exp":1800000600}"#)?.user == user)
    }

    @Test(
        "an impossible sub is refused",
        arguments: [
            #"{"exp":1800000600}"#, #"{"sub":"","exp":1800000600}"#, #"{"sub":null,"exp":1800000600}"#, #"{"sub":7,"exp":1800000600}"#,
            #"{"sub":["a"],"exp":1800000600}"#, #"{"sub":"a\u0000b","exp":1800000600}"#, #"{"sub":"a\nb","exp":1800000600}"#,
            #"{"sub":"\u007f","exp":1800000600}"#, #"{"sub":"\u0085","exp":1800000600}"#,
            #"{"sub":"\#(String(repeating: "a", count: 129))","exp":1800000600}"#,
            #"{"sub":"\#(String(repeating: "é", count: 129))","exp":1800000600}"#,
            // Few characters for a reader, many scalars.
            #"{"sub":"e\#(String(repeating: "\u{301}", count: 128))","exp":1800000600}"#,
        ]
    )
    func impossibleSubjects(_ payload: String) throws {
        #expect(throws: TokenRejection.invalidSubject) { try reading(payload) }
    }

    @Test(
        "roles come from role and roles, as a string or an array",
        arguments: [
            (#""role":"admin""#, ["admin"]), (#""roles":["admin","editor"]"#, ["admin", "editor"]), (#""roles":"admin""#, ["admin"]),
            (#""role":"admin","roles":["editor"]"#, ["admin", "editor"]), (#""role":null"#, []), (#""roles":[]"#, []), (#""rôle":"admin""#, []),
        ] as [(String, Set<String>)]
    )
    func roles(_ claim: String, _ expected: Set<String>) throws {
        let user = try #require(try reading(#"{"sub":"a","exp":1800000600,\#(claim)}"#))
        #expect(user.roles == expected)
        #expect(user.isAdmin == expected.contains("admin"))
    }

    @Test("only the role admin makes an admin", arguments: ["Admin", "administrator", "admin ", ""])
    func almostAdmin(_ role: String) throws {
        #expect(try reading(#"{"sub":"a","exp":1800000600,"role":"\#(role)"}"#)?.isAdmin == false)
    }

    @Test("customers restrict as a string or an array, and an empty array allows none")
    func customers() throws {
        #expect(try reading(#"{"sub":"a","exp":1800000600}"#)?.customers == nil)
        #expect(try reading(#"{"sub":"a","exp":1800000600,"customers":"c1"}"#)?.customers == ["c1"])
        #expect(try reading(#"{"sub":"a","exp":1800000600,"customers":["c1","c2"]}"#)?.customers == ["c1", "c2"])
        #expect(try reading(#"{"sub":"a","exp":1800000600,"customers":[]}"#)?.customers == [])
    }

    @Test(
        "a grant or a restriction of the wrong kind makes the token malformed, never unrestricted",
        arguments: [
            #""customers":null"#, #""customers":7"#, #""customers":{}"#, #""customers":["c1",2]"#, #""customers":[null]"#, #""customers":"""#,
            #""customers":["a\u0000"]"#, #""customers":[["c1"]]"#, #""role":7"#, #""roles":{"admin":true}"#, #""roles":["admin",1]"#, #""jti":7"#,
        ]
    )
    func wrongKind(_ claim: String) throws {
        #expect(throws: TokenRejection.malformed) { try reading(#"{"sub":"a","exp":1800000600,\#(claim)}"#) }
    }
}
