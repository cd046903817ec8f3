import CCurl

/// One `CURLM`: the transfers under way and the connections kept for the next ones. Freed in `deinit`.
///
/// Used by one thread, but for ``wakeUp()``, the one function that libcurl allows to be called from any (libcurl-thread(3)). It lives as long as
/// anybody holds it, so that there is always something to wake.
final class MultiHandle: @unchecked Sendable {
    private let multi: UnsafeMutableRawPointer

    /// Nil when there is no memory or no descriptor left.
    init?(idleConnections: Int) {
        // Once for the process; later calls only count.
        guard curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK, let multi = curl_multi_init() else { return nil }
        self.multi = multi
        _ = carillon_multi_long(multi, CURLMOPT_MAXCONNECTS, idleConnections)
    }

    deinit {
        curl_multi_cleanup(self.multi)
    }

    func wakeUp() {
        // What it fails with, a full pipe, is a wake-up too.
        _ = curl_multi_wakeup(self.multi)
    }

    func add(_ transfer: Transfer) -> Bool {
        transfer.withHandle { curl_multi_add_handle(self.multi, $0) } == CURLM_OK
    }

    func remove(_ transfer: Transfer) {
        _ = transfer.withHandle { curl_multi_remove_handle(self.multi, $0) }
    }

    /// Does what can be done without waiting.
    func perform() {
        var running: Int32 = 0
        // Its errors are of handles that are none.
        _ = curl_multi_perform(self.multi, &running)
    }

    /// Waits for the network, a time limit of a transfer, or ``wakeUp()``.
    func wait(milliseconds: Int32) {
        _ = curl_multi_poll(self.multi, nil, 0, milliseconds, nil)
    }

    /// The transfers that ended since the last call, with libcurl's result.
    func ended() -> [(id: UInt64, result: CURLcode)] {
        var ended: [(UInt64, CURLcode)] = []
        var left: Int32 = 0
        while let message = curl_multi_info_read(self.multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
            var context: UnsafeMutableRawPointer?
            guard carillon_easy_get_pointer(easy, CURLINFO_PRIVATE, &context) == CURLE_OK, let context else { continue }
            ended.append((Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().id, carillon_message_result(message)))
        }
        return ended
    }
}
