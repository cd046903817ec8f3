import Foundation

/// The browser's files, as they are served.
public enum WebClient {
    /// A file by its name, and its media type. Nil when there is none.
    public static func file(_ name: String) -> (bytes: [UInt8], mediaType: String)? {
        guard let url = Bundle.module.url(forResource: "Resources", withExtension: nil)?.appendingPathComponent(name),
            let data = try? Data(contentsOf: url)
        else { return nil }
        let types = ["html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"]
        return (Array(data), types[url.pathExtension] ?? "application/octet-stream")
    }
}
