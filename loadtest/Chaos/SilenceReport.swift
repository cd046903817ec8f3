/// For how long acknowledged changes did not reach their streams, around each kind of fault.
///
/// A change belongs to a fault when its way from the answer to the stream touches the time from the fault's beginning to `aftermath` seconds
/// after its end. Its silence counts from the later of its acknowledgement and the end of the last fault that it belongs to and that had ended
/// when it came: nobody can promise a stream through what is down.
struct SilenceReport: Codable, Sendable, Equatable {
    struct Row: Codable, Sendable, Equatable {
        var kind: String
        /// Faults of it.
        var times: Int
        /// Changes that belong to one of them, once for each stream.
        var changes: UInt64
        /// Milliseconds.
        var p99: Double
        var longest: Double
        /// From the acknowledgement alone, whatever was down.
        var longestFromAcknowledgement: Double
    }

    static let aftermath: UInt64 = 3_000_000_000

    var rows: [Row]

    init(_ records: [FaultRecord], _ receipts: [Receipt]) {
        let faults = records.compactMap { record in
            record.recovered.map { (kind: record.fault.kind, began: record.began, recovered: $0) }
        }.sorted { $0.began < $1.began }
        // No fault that began later than this before a moment can still matter to it.
        let span = (faults.map { $0.recovered - $0.began }.max() ?? 0) + Self.aftermath
        var silences: [Fault.Kind: [UInt64]] = [:]
        var whole: [Fault.Kind: UInt64] = [:]
        for receipt in receipts {
            let from = faults.partitioningIndex { $0.began + span >= receipt.acknowledged }
            var touching: [(kind: Fault.Kind, began: UInt64, recovered: UInt64)] = []
            for fault in faults[from...] {
                if fault.began > max(receipt.received, receipt.acknowledged) { break }
                if fault.recovered + Self.aftermath >= receipt.acknowledged { touching.append(fault) }
            }
            let recovered = touching.map(\.recovered).filter { $0 <= receipt.received }.max() ?? 0
            let active = touching.contains { $0.recovered > receipt.received }
            let start = max(receipt.acknowledged, recovered)
            // What came before everything was over did not have to wait for that.
            let silence = active || receipt.received <= start ? 0 : receipt.received - start
            for kind in Set(touching.map(\.kind)) {
                silences[kind, default: []].append(silence)
                whole[kind] = max(whole[kind] ?? 0, receipt.received - min(receipt.received, receipt.acknowledged))
            }
        }
        rows = Set(faults.map(\.kind)).sorted().map { kind in
            let all = (silences[kind] ?? []).sorted()
            return Row(
                kind: kind.description, times: faults.count { $0.kind == kind }, changes: UInt64(all.count),
                p99: all.isEmpty ? 0 : Self.milliseconds(all[min(all.count - 1, all.count * 99 / 100)]), longest: Self.milliseconds(all.last ?? 0),
                longestFromAcknowledgement: Self.milliseconds(whole[kind] ?? 0)
            )
        }
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> Double { (Double(nanoseconds) / 1e5).rounded() / 10 }
}

extension Array {
    /// The first index for which it holds, of elements for all of which after that it holds.
    fileprivate func partitioningIndex(_ holds: (Element) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if holds(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
