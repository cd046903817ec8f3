import Foundation

/// The browser's files, as they are served.
public enum WebClient {
    public struct File: Sendable {
        public let name: String
        public let bytes: [UInt8]
        public let mediaType: String
    }

    /// What lies under `/client/`: the modules of the client and of the pages, their types and styles.
    ///
    /// - Throws: What Foundation says when the files are not beside the program.
    public static func clientFiles() throws -> [File] {
        let folder = try self.folder().appendingPathComponent("client")
        return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().map { try self.file($0, in: folder) }
    }

    /// A page by its name: `demo.html`, `console.html`.
    ///
    /// - Throws: What Foundation says when it is not beside the program.
    public static func page(_ name: String) throws -> File {
        try self.file(name, in: self.folder())
    }

    private static func folder() throws -> URL {
        guard let url = Bundle.module.url(forResource: "Resources", withExtension: nil) else { throw CocoaError(.fileNoSuchFile) }
        return url
    }

    private static func file(_ name: String, in folder: URL) throws -> File {
        let url = folder.appendingPathComponent(name)
        let types = [
            "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
            "ts": "text/plain; charset=utf-8", "json": "application/json", "svg": "image/svg+xml",
        ]
        return File(name: name, bytes: Array(try Data(contentsOf: url)), mediaType: types[url.pathExtension] ?? "application/octet-stream")
    }
}
