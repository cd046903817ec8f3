/// What is said first on every connection: AUTH and SELECT where the endpoint names a user or a database, then PING. Only PONG lets anybody
/// use the connection, since a server that still loads its data, or a replica without its primary, refuses the PING.
struct Greeting: Sendable {
    enum Progress: Sendable, Equatable {
        case more
        case done
        case failed(RedisError)
    }

    let commands: [RedisCommand]
    private var answered = 0

    init(endpoint: RedisEndpoint, for purpose: ConnectionPurpose) {
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
        self.commands = commands
    }

    mutating func received(_ reply: RedisValue) -> Progress {
        answered += 1
        switch reply {
        case .error(let error): return .failed(error)
        case .status("PONG") where answered == commands.count: return .done
        case .status("OK") where answered < commands.count: return .more
        case .status, .null, .integer, .bulk, .array: return .failed(.violation("an unexpected answer to the greeting"))
        }
    }
}
