import CLibpq
import Logging

/// One `PGconn`, non-blocking, finished in `deinit`. Used by one thread only.
struct ConnectionHandle: ~Copyable {
    enum ConnectStep {
        case waitToRead, waitToWrite, done, failed
    }

    enum Flush {
        case done, blocked, failed
    }

    enum Answer {
        case reply(PipelineState<Submission, PostgresRows>.Reply)
        /// COPY has no place in a pipeline, and the protocol no way back from it here.
        case copy
    }

    private let connection: OpaquePointer
    private let notices: ServerNotices

    /// Starts to connect. nil when there is no memory.
    init?(_ parameters: ConnectionParameters, logger: Logger) {
        let started = Self.withCStrings(parameters.keywords) { keywords in
            Self.withCStrings(parameters.values) { values in PQconnectStartParams(keywords, values, 1) }
        }
        guard let started else { return nil }
        connection = started
        notices = ServerNotices(logger: logger)
        notices.attach(to: started)
    }

    deinit {
        PQfinish(connection)
    }

    /// A NULL-terminated array of C strings.
    private static func withCStrings<Value>(_ strings: [String], _ body: ([UnsafePointer<CChar>?]) -> Value) -> Value {
        func add(_ pointers: [UnsafePointer<CChar>?], _ rest: ArraySlice<String>) -> Value {
            guard let first = rest.first else { return body(pointers + [nil]) }
            return first.withCString { add(pointers + [$0], rest.dropFirst()) }
        }
        return add([], strings[...])
    }

    // MARK: Connecting

    var isBad: Bool { PQstatus(connection) == CONNECTION_BAD }
    var socket: Int32 { PQsocket(connection) }
    var errorMessage: String { String(libpq: PQerrorMessage(connection)) }
    var server: String { "\(PQhost(connection).map { String(cString: $0) } ?? ""):\(PQport(connection).map { String(cString: $0) } ?? "")" }
    /// The process at the server; of a pooler, a number of its own.
    var process: Int32 { PQbackendPID(connection) }
    var usesTLS: Bool { PQsslInUse(connection) != 0 }

    func connectStep() -> ConnectStep {
        switch PQconnectPoll(connection) {
        case PGRES_POLLING_READING: .waitToRead
        case PGRES_POLLING_WRITING: .waitToWrite
        case PGRES_POLLING_OK: .done
        default: .failed
        }
    }

    /// After connecting, and after each script.
    func enterPipeline() -> Bool {
        PQsetnonblocking(connection, 1) == 0 && PQenterPipelineMode(connection) == 1
    }

    // MARK: Sending. False: the connection cannot be used any more.

    func prepare(name: String, _ statement: PostgresStatement, types: [UInt32]) -> Bool {
        PQsendPrepare(connection, name, statement.sql, Int32(types.count), types) == 1
    }

    func execute(name: String?, _ statement: PostgresStatement, _ parameters: EncodedParameters) -> Bool {
        let count = Int32(parameters.count)
        return parameters.withPointers { values, lengths, formats in
            if let name { return PQsendQueryPrepared(connection, name, count, values, lengths, formats, 1) == 1 }
            return PQsendQueryParams(connection, statement.sql, count, parameters.types, values, lengths, formats, 1) == 1
        }
    }

    /// A statement of our own without parameters or result.
    func execute(_ sql: String) -> Bool {
        PQsendQueryParams(connection, sql, 0, nil, nil, nil, nil, 1) == 1
    }

    /// libpq up to 16 also writes here what it can.
    func sync() -> Bool {
        PQpipelineSync(connection) == 1
    }

    /// Only with nothing in flight.
    func sendScript(_ sql: String) -> Bool {
        PQexitPipelineMode(connection) == 1 && PQsendQuery(connection, sql) == 1
    }

    /// Behind a script, outside of pipeline mode.
    func rollBackScript() -> Bool {
        PQsendQuery(connection, "ROLLBACK") == 1
    }

    func flush() -> Flush {
        switch PQflush(connection) {
        case 0: .done
        case 1: .blocked
        default: .failed
        }
    }

    // MARK: Receiving

    /// Reads what is there.
    func consumeInput() -> Bool {
        // A TLS record can be larger than the space in libpq's buffer. Its rest then waits inside of the TLS library, where poll(2) does not see it;
        // each call makes at least 8 KiB of space, and a record has at most 16.
        for _ in 0..<(usesTLS ? 3 : 1) where PQconsumeInput(connection) == 0 { return false }
        return true
    }

    /// Whether the next answer has not arrived.
    var isBusy: Bool { PQisBusy(connection) != 0 }

    var isInTransaction: Bool { PQtransactionStatus(connection) != PQTRANS_IDLE }

    func nextAnswer() -> Answer {
        guard let result = PQgetResult(connection) else { return .reply(.end) }
        switch PQresultStatus(result) {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            return .reply(.rows(PostgresRows(QueryResult(result))))
        case PGRES_PIPELINE_SYNC:
            PQclear(result)
            return .reply(.synced)
        case PGRES_PIPELINE_ABORTED:
            PQclear(result)
            return .reply(.aborted)
        case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
            PQclear(result)
            return .copy
        default:
            defer { PQclear(result) }
            return .reply(.failure(PostgresError(result)))
        }
    }
}

extension EncodedParameters {
    /// As libpq takes them: pointers to the values (nil for NULL), their lengths, and a 1 for each, which means binary.
    fileprivate func withPointers<Value>(
        _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> Value
    ) -> Value {
        if count == 0 { return body(nil, nil, nil) }
        return bytes.withUnsafeBytes { bytes in
            lengths.withUnsafeBufferPointer { lengths in
                withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: count) { pointers in
                    withUnsafeTemporaryAllocation(of: Int32.self, capacity: count) { formats in
                        // Empty values need an address too, or they would be NULL; any will do.
                        var next = bytes.baseAddress ?? UnsafeRawPointer(lengths.baseAddress!)
                        for index in 0..<count {
                            pointers.initializeElement(at: index, to: lengths[index] < 0 ? nil : next.assumingMemoryBound(to: CChar.self))
                            formats.initializeElement(at: index, to: 1)
                            next += Int(max(0, lengths[index]))
                        }
                        return body(UnsafePointer(pointers.baseAddress!), lengths.baseAddress!, UnsafePointer(formats.baseAddress!))
                    }
                }
            }
        }
    }
}
