/// What the oracle of `chaos` has to know of each request, kept from the moment it is due.
extension LoadLoop {
    func asked(_ call: CallNumber, _ start: Int) {
        for offset in 0..<plan.group {
            local(userIndex(start, offset))?.evidence.creations.append(.init(call: call, outcome: .unsent))
        }
    }

    func asked(_ request: inout DueRequest) {
        let (user, kind, id): (UserState, UserEvidence.Operation.Kind, NotificationID?)
        switch request.kind {
        case .read(let of, let which): (user, kind, id) = (of, .read, which)
        case .delete(let of, let which): (user, kind, id) = (of, .delete, which)
        case .readAll(let of): (user, kind, id) = (of, .readAll, nil)
        case .notify, .count, .inbox: return
        }
        request.operation = user.evidence.operations.count
        user.evidence.operations.append(.init(kind: kind, id: id, outcome: .unsent))
    }

    func learned(_ request: DueRequest, _ outcome: Outcome, at now: UInt64) {
        switch request.kind {
        case .notify(let start, let call):
            for offset in 0..<plan.group {
                guard let user = local(userIndex(start, offset)) else { continue }
                // A user's calls are in their order, and those still open are few.
                guard let index = user.evidence.creations.lastIndex(where: { $0.call == call }) else { continue }
                user.evidence.creations[index].outcome = outcome
            }
        case .read(let user, _), .delete(let user, _), .readAll(let user):
            user.evidence.operations[request.operation].outcome = outcome
            user.evidence.operations[request.operation].at = now
        case .count, .inbox:
            break
        }
    }
}

extension UserEvidence {
    /// Whether the answer to a read-all says that it changed something.
    static func updated(_ body: UnsafeRawBufferPointer) throws(LoadtestError) -> Bool {
        var reader = JSONReader(body)
        var updated = false
        try reader.object { (key, reader) throws(LoadtestError) in
            if key.matches("updated") { updated = try reader.integerIfAny() ?? 0 > 0 } else { try reader.skip() }
        }
        return updated
    }
}
