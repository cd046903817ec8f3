#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// One block of an event stream, as it stood between two blank lines. `data` is valid during the call it is handed to.
struct SSEBlock {
    enum Name: Equatable {
        case message, ready, update, delete, readAll, resync, authExpiring, close
        /// A name that this tool does not know.
        case other
    }

    /// The block's own `id:` line; the identifier of an earlier block does not count here.
    enum Identifier: Equatable {
        case absent
        case position(StreamPosition)
        case malformed
    }

    let name: Name
    let id: Identifier
    let data: UnsafeRawBufferPointer
    let hasData: Bool
    /// Milliseconds of the block's `retry:` line.
    let retry: UInt64?
}

/// An incremental parser of event streams (WHATWG HTML 9.2.6) that reports every block, also one without data: such a
/// block moves the position along.
///
/// Bounded: a line, or the data of one block, past 1 MiB is an error.
struct SSEParser {
    private static let limit = 1 << 20

    private var line: [UInt8] = []
    /// The block's data where it lies in what is being fed, as long as it is one line; what outlives the call, or has several, is in `data`.
    private var inPlace: UnsafeRawBufferPointer?
    private var data: [UInt8] = []
    private var hasData = false
    private var name = SSEBlock.Name.message
    private var id = SSEBlock.Identifier.absent
    private var retry: UInt64?
    private var touched = false
    private var afterCarriageReturn = false
    private var atStart = true

    /// Takes the next bytes and calls `body` for each block that they complete.
    mutating func feed(_ bytes: UnsafeRawBufferPointer, _ body: (SSEBlock) throws(LoadtestError) -> Void) throws(LoadtestError) {
        guard let base = bytes.baseAddress else { return }
        defer { keep() }
        var position = 0
        while position < bytes.count {
            if afterCarriageReturn {
                afterCarriageReturn = false
                if bytes[position] == 0x0a {
                    position += 1
                    continue
                }
            }
            let rest = bytes.count - position
            let newline = memchr(base + position, 0x0a, rest).map { UnsafeRawPointer($0) - base } ?? bytes.count
            // A carriage return also ends a line; servers hardly use it, and this looks only within the line.
            let carriage = memchr(base + position, 0x0d, newline - position).map { UnsafeRawPointer($0) - base } ?? newline
            let end = min(newline, carriage)
            let piece = UnsafeRawBufferPointer(rebasing: bytes[position..<end])
            guard end < bytes.count else {
                line.append(contentsOf: piece)
                guard line.count <= Self.limit else { throw .malformed("A line of the stream is longer than 1 MiB") }
                return
            }
            afterCarriageReturn = bytes[end] == 0x0d
            position = end + 1
            if line.isEmpty {
                try take(piece, body)
            } else {
                line.append(contentsOf: piece)
                var whole: [UInt8] = []
                swap(&whole, &line)
                var failure: LoadtestError?
                whole.withUnsafeBytes {
                    do throws(LoadtestError) { try take($0, body) } catch { failure = error }
                    keep()
                }
                if let failure { throw failure }
            }
        }
    }

    /// Copies what would not outlive its bytes.
    private mutating func keep() {
        guard let bytes = inPlace else { return }
        data.append(contentsOf: bytes)
        inPlace = nil
    }

    private mutating func take(_ whole: UnsafeRawBufferPointer, _ body: (SSEBlock) throws(LoadtestError) -> Void) throws(LoadtestError) {
        var line = whole
        if atStart {
            atStart = false
            if line.starts(with: [0xef, 0xbb, 0xbf]) { line = UnsafeRawBufferPointer(rebasing: line[3...]) }
        }
        guard !line.isEmpty else { return try dispatch(body) }
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.count
        guard colon > 0 else { return }
        var start = min(colon + 1, line.count)
        if start < line.count, line[start] == 0x20 { start += 1 }
        let field = UnsafeRawBufferPointer(rebasing: line[..<colon])
        let value = UnsafeRawBufferPointer(rebasing: line[start...])
        if field.says("data") {
            if hasData {
                keep()
                data.append(0x0a)
                data.append(contentsOf: value)
            } else {
                inPlace = value
            }
            guard data.count + (inPlace?.count ?? 0) <= Self.limit else { throw .malformed("The data of an event is longer than 1 MiB") }
            hasData = true
            touched = true
        } else if field.says("id") {
            id = StreamPosition(value).map { .position($0) } ?? .malformed
            touched = true
        } else if field.says("event") {
            name = Self.name(value)
            touched = true
        } else if field.says("retry") {
            retry = UInt64(String(decoding: value, as: UTF8.self))
            touched = true
        }
    }

    private mutating func dispatch(_ body: (SSEBlock) throws(LoadtestError) -> Void) throws(LoadtestError) {
        guard touched else { return }
        // The fields are put back before the call: a block that is refused must not colour the next one. A stream keeps no memory for its last one.
        var taken: [UInt8] = []
        swap(&taken, &data)
        let inPlace = self.inPlace
        self.inPlace = nil
        let (name, id, hasData, retry) = (self.name, self.id, self.hasData, self.retry)
        (self.name, self.id, self.hasData, self.retry, touched) = (.message, .absent, false, nil, false)
        if let inPlace { return try body(SSEBlock(name: name, id: id, data: inPlace, hasData: hasData, retry: retry)) }
        var failure: LoadtestError?
        taken.withUnsafeBytes { bytes in
            do throws(LoadtestError) {
                try body(SSEBlock(name: name, id: id, data: bytes, hasData: hasData, retry: retry))
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private static func name(_ value: UnsafeRawBufferPointer) -> SSEBlock.Name {
        if value.isEmpty || value.says("message") { return .message }
        if value.says("ready") { return .ready }
        if value.says("update") { return .update }
        if value.says("delete") { return .delete }
        if value.says("read_all") { return .readAll }
        if value.says("resync") { return .resync }
        if value.says("auth_expiring") { return .authExpiring }
        if value.says("close") { return .close }
        return .other
    }
}

extension UnsafeRawBufferPointer {
    @inline(__always)
    fileprivate func says(_ word: StaticString) -> Bool {
        count == word.utf8CodeUnitCount && memcmp(baseAddress ?? UnsafeRawPointer(word.utf8Start), word.utf8Start, count) == 0
    }
}
