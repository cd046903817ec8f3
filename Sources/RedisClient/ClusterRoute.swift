/// Where in a cluster a command goes.
enum ClusterRoute: Sendable, Equatable {
    case slot(HashSlot)
    /// It names no key.
    case anywhere
}

extension RedisCommand {
    /// By the first key. The other keys of a command must lie in the same slot, or the server refuses it.
    var route: ClusterRoute {
        let index: Int
        switch name.uppercased() {
        case "EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO":
            guard arguments.count > 2, arguments[1] != .integer(0), arguments[1] != .string("0") else { return .anywhere }
            index = 2
        case "OBJECT", "BITOP", "XGROUP", "XINFO", "MEMORY":
            index = 1
        case "PING", "ECHO", "TIME", "INFO", "SCRIPT", "CLUSTER", "CONFIG", "CLIENT", "ACL", "COMMAND", "DBSIZE", "ROLE", "PUBSUB", "LATENCY", "SLOWLOG",
            "FUNCTION", "WAIT", "LOLWUT":
            return .anywhere
        default:
            index = 0
        }
        guard index < arguments.count else { return .anywhere }
        return .slot(arguments[index].slot)
    }

    /// As a cluster takes it: PUBLISH would go to all of its nodes, SPUBLISH goes to the one that serves the channel.
    var sharded: RedisCommand {
        guard name == "PUBLISH" else { return self }
        return RedisCommand(name: "SPUBLISH", arguments: arguments)
    }
}
