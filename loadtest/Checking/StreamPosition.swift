/// Where a stream stands: `<epoch>-<seq>`, the value of an SSE `id:` line and of `last_event_id`.
struct StreamPosition: Hashable, Sendable, CustomStringConvertible {
    let epoch: UInt64
    let seq: UInt64

    var description: String { "\(epoch)-\(seq)" }

    init(epoch: UInt64, seq: UInt64) {
        self.epoch = epoch
        self.seq = seq
    }

    /// Parses exactly `digits-digits`; anything else, and anything past 64 bits, is nil.
    init?(_ bytes: UnsafeRawBufferPointer) {
        var parts: (UInt64, UInt64) = (0, 0)
        var dash = false
        var digits = 0
        for byte in bytes {
            if byte == UInt8(ascii: "-"), !dash, digits > 0 {
                dash = true
                digits = 0
                continue
            }
            let digit = byte &- 0x30
            guard digit < 10 else { return nil }
            let value = dash ? parts.1 : parts.0
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            guard !overflow, !carry else { return nil }
            if dash { parts.1 = sum } else { parts.0 = sum }
            digits += 1
        }
        guard dash, digits > 0 else { return nil }
        epoch = parts.0
        seq = parts.1
    }

    init?(_ text: String) {
        var text = text
        guard let position = text.withUTF8({ StreamPosition(UnsafeRawBufferPointer($0)) }) else { return nil }
        self = position
    }
}
