import Foundation
import NotificationCore

/// Why a file is no catalogue: everything that is wrong with it.
struct CatalogueError: Error, CustomStringConvertible {
    struct Fault: Sendable, Equatable {
        /// From 1; 0 when it is the file as a whole.
        let line: Int
        /// A JSON pointer (RFC 6901) into the file.
        let pointer: String
        let detail: String
    }

    let file: String
    let faults: [Fault]

    /// One for each fault: file, line, pointer, and what is wrong.
    var lines: [String] {
        self.faults.map { "\(self.file)\($0.line > 0 ? ":\($0.line)" : ""): \($0.pointer.isEmpty ? "" : $0.pointer + ": ")\($0.detail)" }
    }

    var description: String { "CARILLON_CATALOGUE: " + self.lines.joined(separator: "; ") }
}

/// Reads a catalogue from a YAML file.
enum CatalogueFile {
    /// In bytes.
    static let maximumSize = 4 << 20

    /// - Parameter path: nil for the shipped example.
    static func load(_ path: String?) throws -> Catalogue {
        let file: URL
        if let path {
            file = URL(fileURLWithPath: path)
        } else if let shipped = Bundle.module.url(forResource: "notifications", withExtension: "yaml") {
            file = shipped
        } else {
            throw SettingError("CARILLON_CATALOGUE", "the shipped catalogue is not beside the program: install its .resources folder with it")
        }
        let data: Data
        do {
            let handle = try FileHandle(forReadingFrom: file)
            defer { try? handle.close() }
            data = try handle.read(upToCount: Self.maximumSize + 1) ?? Data()
        } catch {
            throw CatalogueError(file: file.path, faults: [.init(line: 0, pointer: "", detail: "cannot be read: \(error.localizedDescription)")])
        }
        if data.count > Self.maximumSize {
            throw CatalogueError(file: file.path, faults: [.init(line: 0, pointer: "", detail: "is larger than \(Self.maximumSize >> 20) MiB")])
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw CatalogueError(file: file.path, faults: [.init(line: 0, pointer: "", detail: "is not UTF-8")])
        }
        return try self.parse(text, file: file.path)
    }

    static func parse(_ yaml: String, file: String) throws(CatalogueError) -> Catalogue {
        var reader = CatalogueReader()
        let catalogue = reader.read(yaml)
        guard let catalogue, reader.faults.isEmpty else {
            throw CatalogueError(file: file, faults: reader.faults.sorted { ($0.line, $0.pointer, $0.detail) < ($1.line, $1.pointer, $1.detail) })
        }
        return catalogue
    }
}
