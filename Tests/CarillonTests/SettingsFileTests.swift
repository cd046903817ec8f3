import Foundation
import Testing

@testable import carillon

@Suite("settings that lie in a file")
struct SettingsFileTests {
    private let folder: URL

    init() throws {
        self.folder = FileManager.default.temporaryDirectory.appendingPathComponent("carillon-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
    }

    private func file(_ content: [UInt8]) throws -> String {
        let file = self.folder.appendingPathComponent("value")
        try Data(content).write(to: file)
        return file.path
    }

    private func settings(_ environment: [String: String]) throws -> Settings { try Settings(file: nil, environment: environment) }

    @Test("each of them may, with a line's end or without; what the environment says itself counts first", arguments: Settings.allNames.sorted())
    func each(name: String) throws {
        defer { try? FileManager.default.removeItem(at: self.folder) }
        for content in ["s3cret", "s3cret\n", " s3cret\r\n"] {
            let path = try self.file(Array(content.utf8))
            #expect(try self.settings([name + "_FILE": path]).text(name) == "s3cret")
            #expect(try self.settings([name + "_FILE": path, name: "other"]).text(name) == "other")
            #expect(try self.settings([name + "_FILE": ""]).text(name) == nil)
            let yaml = self.folder.appendingPathComponent("settings.yaml")
            try "\(name)_FILE: \(path)\n".write(to: yaml, atomically: true, encoding: .utf8)
            #expect(try Settings(file: yaml.path, environment: [:]).text(name) == "s3cret")
        }
    }

    @Test("a file that will not do is named with its setting and its fault, and what it holds is not")
    func faults() throws {
        defer { try? FileManager.default.removeItem(at: self.folder) }
        func fault(_ path: String) throws -> String {
            let error = try #require(throws: SettingError.self) { try self.settings(["CARILLON_JWT_SECRET_FILE": path]).text("CARILLON_JWT_SECRET") }
            #expect(error.name == "CARILLON_JWT_SECRET_FILE" && error.problem.hasPrefix(path))
            return String(error.problem.dropFirst(path.count))
        }
        #expect(try fault("/nowhere/at/all") == ": there is no such file")
        #expect(try fault(self.folder.path) == " cannot be read")
        #expect(try fault(self.file([])) == " is empty")
        #expect(try fault(self.file(Array(" \n\n".utf8))) == " is empty")
        #expect(try fault(self.file([0x73, 0xFF, 0x74])) == " is not UTF-8")
        #expect(try fault(self.file([UInt8](repeating: 0x73, count: 65_537))) == " has more than 65536 bytes")
        #expect(try self.settings(["CARILLON_JWT_SECRET_FILE": self.file([UInt8](repeating: 0x73, count: 65_536))]).text("CARILLON_JWT_SECRET")?.utf8.count == 65_536)
    }

    @Test("keys of webhooks' secrets are both long enough, and two")
    func keys() throws {
        let (one, two) = (String(repeating: "1", count: 32), String(repeating: "2", count: 32))
        func secrets(_ key: String?, _ old: String?) throws -> Bool {
            var environment: [String: String] = [:]
            environment["CARILLON_SECRETS_KEY"] = key
            environment["CARILLON_SECRETS_KEY_OLD"] = old
            return try SenderSettings.secrets(self.settings(environment)) != nil
        }
        #expect(try !secrets(nil, nil) && secrets(one, nil) && secrets(two, one))
        for (key, old, name) in [("short", nil, "CARILLON_SECRETS_KEY"), (one, "short", "CARILLON_SECRETS_KEY_OLD"), (one, one, "CARILLON_SECRETS_KEY_OLD"), (nil, one, "CARILLON_SECRETS_KEY_OLD")] as [(String?, String?, String)] {
            #expect(try #require(throws: SettingError.self) { try secrets(key, old) }.name == name)
        }
    }
}
