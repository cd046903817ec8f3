#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Reads a small regular file at once.
enum SmallFile {
    /// The bytes of the file at `path`; throws when there is none, or it holds more than `limit` bytes.
    static func read(_ path: String, limit: Int) throws(JWKSLoadError) -> [UInt8] {
        // Not blocking, since opening a pipe by mistake would otherwise hold the thread until somebody writes to it.
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { throw unreadable(errno) }
        defer { close(descriptor) }

        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unreadable(errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw JWKSLoadError(code: .unreadable, message: "not a regular file", remedy: "give the path of a file")
        }

        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = chunk.withUnsafeMutableBytes { buffer in
                #if canImport(Glibc)
                Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                #elseif canImport(Musl)
                Musl.read(descriptor, buffer.baseAddress, buffer.count)
                #else
                Darwin.read(descriptor, buffer.baseAddress, buffer.count)
                #endif
            }
            if count < 0 {
                guard errno == EINTR else { throw unreadable(errno) }
                continue
            }
            guard count > 0 else { return bytes }
            bytes.append(contentsOf: chunk[..<count])
            guard bytes.count <= limit else { throw .tooLarge }
        }
    }

    private static func unreadable(_ code: CInt) -> JWKSLoadError {
        JWKSLoadError(
            code: .unreadable, message: String(cString: strerror(code)), remedy: "check that the file is there and that this process may read it"
        )
    }
}
