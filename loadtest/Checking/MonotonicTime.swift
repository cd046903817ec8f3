import Foundation

/// The one clock of the tool: CLOCK_MONOTONIC in nanoseconds.
///
/// A due time and the receipt that belongs to it are read from the same clock of the same process, so no clock has to
/// be compared with another one.
@inline(__always)
func monotonicNow() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
