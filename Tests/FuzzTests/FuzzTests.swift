import Testing

@Suite("Hostile inputs")
struct FuzzTests {
    @Test("no input ends the process, and what is taken keeps its promises", .serialized, arguments: Parser.all)
    func parsers(_ parser: Parser) throws {
        let settings = Fuzzer.Settings()
        if let only = settings.only, only != parser.name { return }
        var fuzzer = try Fuzzer(parser, settings)
        let report = try fuzzer.run()
        for broken in report.broken { Issue.record("\(parser.name): \(broken)") }
        #expect(report.kinds > 1, "nothing, or everything, was taken")
        print("\(parser.name): \(report.tried) inputs, \(report.kinds) kinds of outcomes")
    }

    @Test("every folder of inputs is some parser's, and a parser that is asked for exists")
    func folders() throws {
        let names = Parser.all.map(\.name)
        #expect(Set(names).count == names.count)
        if let only = Fuzzer.Settings().only { #expect(names.contains(only) || only == HTTPInputs.name, "\(names)") }
        #expect(try Fuzzer.folders() == Set(names + [HTTPInputs.name]))
    }
}
