import Foundation

/// A private Redis server for tests, on a free port of 127.0.0.1, with nothing kept on disk. It ends with the process that started it, also when
/// that crashes.
public final class RedisServer: @unchecked Sendable {
    // @unchecked: nothing of it is mutable but the process, which only `deinit` touches.

    /// One for the whole test process, started on first use: take a prefix of your own.
    public static func shared() throws -> RedisServer { try sharedResult.get() }
    private static let sharedResult = Result { try RedisServer() }

    public let port: Int
    private let shell = Process()
    private let input = Pipe()

    public var url: String { "redis://127.0.0.1:\(self.port)" }

    public init() throws {
        self.port = try FreePort.next()
        self.shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        // The shell's input ends with this process, however that ends. (No `wait`: the thread that starts it may have SIGCHLD blocked.)
        self.shell.arguments = [
            "-c", "redis-server --port \(self.port) --bind 127.0.0.1 --save '' --appendonly no --dir /tmp & read -r end; kill -9 $!",
        ]
        self.shell.standardInput = self.input
        self.shell.standardOutput = FileHandle.nullDevice
        self.shell.standardError = FileHandle.nullDevice
        try self.shell.run()
    }

    deinit {
        // Closing it twice is no fault.
        try? self.input.fileHandleForWriting.close()
    }
}
