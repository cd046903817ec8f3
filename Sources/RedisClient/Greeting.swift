/// What is said first on every connection: AUTH and SELECT where the endpoint names a user or a database, then PING. Only PONG lets anybody
/// use the connection, since a server that still loads its data, or a replica without its primary, refuses the PING. Where only a master
/// will do, ROLE is the last word: what a sentinel says of a server, the server itself may not know yet, and a replica answers PING but takes
/// no writes.
struct Greeting: Sendable {
    enum Progress: Sendable, Equatable {
        case more
        case done
        case failed(RedisError)
    }

    enum Role: Sendable {
        case any
        /// No replica, as far as this user may ask.
        case writable
        case master
    }

    let commands: [RedisCommand]
    private let role: Role
    private let password: String?
    private var answered = 0

    init(endpoint: RedisEndpoint, for purpose: ConnectionPurpose, role: Role = .any) {
        var commands: [RedisCommand] = []
        if let password = endpoint.password {
            if let username = endpoint.username {
                commands.append(RedisCommand("AUTH", .string(username), .string(password)))
            } else {
                commands.append(RedisCommand("AUTH", .string(password)))
            }
        }
        // Channels are not part of a database: a subscriber does not select one.
        if purpose == .commands, endpoint.database != 0 {
            commands.append(RedisCommand("SELECT", .integer(Int64(endpoint.database))))
        }
        commands.append(RedisCommand("PING"))
        if role != .any { commands.append(RedisCommand("ROLE")) }
        self.commands = commands
        self.role = role
        password = endpoint.password
    }

    private var pings: Int { role == .any ? commands.count : commands.count - 1 }

    mutating func received(_ reply: RedisValue) -> Progress {
        answered += 1
        switch reply {
        // An ACL need not allow ROLE; a replica is then known by its first READONLY.
        case .error where answered > pings && role == .writable: return .done
        case .error(let error): return .failed(withoutPassword(error))
        case .status("PONG") where answered == pings: return role == .any ? .done : .more
        case .status("OK") where answered < pings: return .more
        case .array(let role) where answered > pings:
            guard role.first?.string == "master" else {
                return .failed(RedisError(code: .unavailable, message: "the server is not a master (yet, or any more)"))
            }
            return .done
        case .status, .null, .integer, .bulk, .array: return .failed(.violation("an unexpected answer to the greeting"))
        }
    }

    /// Errors end up in logs, and a server that does not know AUTH repeats what it was told, long words cut off.
    private func withoutPassword(_ error: RedisError) -> RedisError {
        guard let start = password?.utf8.prefix(16), !start.isEmpty, error.message.utf8.contains(start) else { return error }
        let code = error.serverCode.flatMap { $0.utf8.contains(start) ? nil : $0 } ?? "ERR"
        return RedisError(code: error.code, message: "\(code) (the server's words repeat the password and are left out; check user and password)")
    }
}
