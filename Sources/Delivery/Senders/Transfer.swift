import CCurl
import Glibc
import NotificationCore

/// One `CURL` with all that its callbacks need. Freed in `deinit`. Used by the engine's thread only.
final class Transfer {
    /// Bytes of a body that are read for the sake of the connection; past them it is cut.
    private static let bodyBound = 64 * 1024
    /// Bytes of headers.
    private static let headerBound = 64 * 1024

    let id: UInt64
    private let easy: UnsafeMutableRawPointer
    private var lists: [UnsafeMutablePointer<curl_slist>] = []
    private let request: TransferRequest
    private let addresses: AddressGuard?
    private let began = ContinuousClock.now
    private let isGivenUp: () -> Bool

    private var body: [UInt8] = []
    private var bodyBytes = 0
    private var headerBytes = 0
    /// The head of an answer that is no 1xx has come to its end.
    private var hasHead = false
    private var isCut = false
    private var refusedAddress: String?
    private var mail = MailDialogue()
    private var sentBytes = 0
    /// It has the time of its last word.
    private var isLong = false

    /// Nil when there is no memory, or an option is not understood.
    ///
    /// - Parameter isGivenUp: asked once a second while libcurl waits for a mail server, in which time nobody else has the thread.
    init?(id: UInt64, request: TransferRequest, addresses: AddressGuard?, certificates: String?, isGivenUp: @escaping () -> Bool = { false }) {
        guard let easy = curl_easy_init() else { return nil }
        self.id = id
        self.easy = easy
        self.request = request
        self.addresses = addresses
        self.isGivenUp = isGivenUp
        guard self.setUp(certificates) else { return nil }
    }

    deinit {
        curl_easy_cleanup(self.easy)
        for list in self.lists { curl_slist_free_all(list) }
    }

    func withHandle<Value>(_ body: (UnsafeMutableRawPointer) -> Value) -> Value { body(self.easy) }

    // MARK: Options

    private func setUp(_ certificates: String?) -> Bool {
        var isGood = true
        func long(_ option: CURLoption, _ value: Int) { isGood = carillon_easy_long(self.easy, option, value) == CURLE_OK && isGood }
        func text(_ option: CURLoption, _ value: String) { isGood = carillon_easy_text(self.easy, option, value) == CURLE_OK && isGood }
        func list(_ option: CURLoption, _ values: [String]) { isGood = self.list(option, values) && isGood }
        func data(_ option: CURLoption, _ callback: @escaping carillon_data_callback, _ context: CURLoption) {
            isGood = carillon_easy_data(self.easy, option, callback) == CURLE_OK && isGood
            isGood = carillon_easy_pointer(self.easy, context, Unmanaged.passUnretained(self).toOpaque()) == CURLE_OK && isGood
        }

        text(CURLOPT_URL, self.request.url)
        // Signals are the program's; a name that is still being looked up does not hold the thread when its transfer is over.
        long(CURLOPT_NOSIGNAL, 1)
        long(CURLOPT_QUICK_EXIT, 1)
        long(CURLOPT_FOLLOWLOCATION, 0)
        // A proxy of the environment would connect in our place, unguarded.
        text(CURLOPT_PROXY, "")
        long(CURLOPT_TIMEOUT_MS, max(1, self.request.timeLimit.milliseconds))
        long(CURLOPT_CONNECTTIMEOUT_MS, max(1, min(10_000, self.request.timeLimit.milliseconds)))
        if let certificates { text(CURLOPT_CAINFO, certificates) }
        if let (user, password) = self.request.credentials {
            text(CURLOPT_USERNAME, user)
            text(CURLOPT_PASSWORD, password)
        }
        list(CURLOPT_RESOLVE, self.request.resolve)
        data(CURLOPT_WRITEFUNCTION, writeCallback, CURLOPT_WRITEDATA)
        data(CURLOPT_HEADERFUNCTION, headerCallback, CURLOPT_HEADERDATA)
        isGood = carillon_easy_pointer(self.easy, CURLOPT_PRIVATE, Unmanaged.passUnretained(self).toOpaque()) == CURLE_OK && isGood
        if self.addresses != nil {
            isGood = carillon_easy_socket(self.easy, socketCallback) == CURLE_OK && isGood
            isGood = carillon_easy_pointer(self.easy, CURLOPT_OPENSOCKETDATA, Unmanaged.passUnretained(self).toOpaque()) == CURLE_OK && isGood
        }
        switch self.request.kind {
        case .post(let headers, let body):
            text(CURLOPT_PROTOCOLS_STR, "http,https")
            // Without its size first libcurl would measure the body as text.
            isGood = carillon_easy_size(self.easy, CURLOPT_POSTFIELDSIZE_LARGE, body.count) == CURLE_OK && isGood
            isGood = body.withUnsafeBytes { carillon_easy_bytes(self.easy, CURLOPT_COPYPOSTFIELDS, $0.baseAddress ?? UnsafeRawPointer(self.easy)) } == CURLE_OK && isGood
            // No server here is asked whether it wants the body.
            list(CURLOPT_HTTPHEADER, headers + ["Expect:"])
        case .mail(let from, let to, let message):
            text(CURLOPT_PROTOCOLS_STR, "smtp,smtps")
            text(CURLOPT_MAIL_FROM, "<\(from)>")
            list(CURLOPT_MAIL_RCPT, ["<\(to)>"])
            long(CURLOPT_UPLOAD, 1)
            isGood = carillon_easy_size(self.easy, CURLOPT_INFILESIZE_LARGE, message.count) == CURLE_OK && isGood
            data(CURLOPT_READFUNCTION, readCallback, CURLOPT_READDATA)
            isGood = carillon_easy_progress(self.easy, progressCallback) == CURLE_OK && isGood
            isGood = carillon_easy_pointer(self.easy, CURLOPT_XFERINFODATA, Unmanaged.passUnretained(self).toOpaque()) == CURLE_OK && isGood
            long(CURLOPT_NOPROGRESS, 0)
            switch self.request.startTLS {
            case .none: break
            case .opportunistic: long(CURLOPT_USE_SSL, Int(CURLUSESSL_TRY.rawValue))
            case .required: long(CURLOPT_USE_SSL, Int(CURLUSESSL_ALL.rawValue))
            }
        }
        return isGood
    }

    private func list(_ option: CURLoption, _ values: [String]) -> Bool {
        var list: UnsafeMutablePointer<curl_slist>?
        for value in values {
            guard let longer = curl_slist_append(list, value) else {
                curl_slist_free_all(list)
                return false
            }
            list = longer
        }
        guard let list else { return true }
        self.lists.append(list)
        return carillon_easy_list(self.easy, option, list) == CURLE_OK
    }

    // MARK: Callbacks

    /// Less than what came ends the transfer.
    fileprivate func take(body bytes: UnsafeRawBufferPointer) -> Int {
        self.bodyBytes += bytes.count
        let room = self.request.keptBytes - self.body.count
        if room > 0 { self.body.append(contentsOf: bytes.prefix(room)) }
        if self.bodyBytes > max(Self.bodyBound, self.request.keptBytes) { return 0 }
        return bytes.count
    }

    fileprivate func take(header bytes: UnsafeRawBufferPointer) -> Int {
        self.headerBytes += bytes.count
        if self.headerBytes > Self.headerBound { return 0 }
        switch self.request.kind {
        case .post:
            if bytes.allSatisfy({ $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n") }), self.status >= 200 { self.hasHead = true }
        case .mail:
            self.mail.take(String(decoding: bytes.prefix(400), as: UTF8.self).filter { $0 != "\r\n" && $0 != "\n" && $0 != "\r" })
            // All that is left to be said is goodbye, for whose answer libcurl holds this thread.
            if self.mail.refusal != nil { _ = carillon_easy_long(self.easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, 2) }
        }
        return bytes.count
    }

    fileprivate func give(_ space: UnsafeMutableRawBufferPointer) -> Int {
        guard case .mail(_, _, let message) = self.request.kind else { return 0 }
        let count = min(space.count, message.count - self.sentBytes)
        space.copyBytes(from: message[self.sentBytes..<self.sentBytes + count])
        self.sentBytes += count
        if self.sentBytes == message.count, let limit = self.request.lastWordLimit, !self.isLong {
            self.isLong = true
            let passed = (ContinuousClock.now - self.began).milliseconds
            // Of the whole, and of this answer alone, for which libcurl has two minutes by itself.
            _ = carillon_easy_long(self.easy, CURLOPT_TIMEOUT_MS, passed + max(1, limit.milliseconds))
            _ = carillon_easy_long(self.easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, max(1, (limit.milliseconds + 999) / 1000))
        }
        return count
    }

    /// Anything but 0 ends the transfer.
    fileprivate func proceed() -> Int32 { self.isGivenUp() ? 1 : 0 }

    /// A socket for that address, or -1. Called with each address that libcurl tries, after the name was resolved: what is looked at is what is
    /// connected to.
    fileprivate func open(_ address: UnsafeMutablePointer<curl_sockaddr>) -> curl_socket_t {
        guard let addresses = self.addresses, let socketAddress = carillon_address(address), let ip = IPAddress(socketAddress: socketAddress) else {
            self.refusedAddress = "its address is none of the internet"
            return -1
        }
        if let refusal = addresses.refusal(of: ip) {
            self.refusedAddress = "\(ip) is refused: \(refusal)"
            return -1
        }
        return socket(address.pointee.family, address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue), address.pointee.protocol)
    }

    // MARK: The end

    private var status: Int {
        var status = 0
        return carillon_easy_get_long(self.easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK ? status : 0
    }

    func result(_ code: CURLcode) -> Result<TransferAnswer, TransferError> {
        let duration = ContinuousClock.now - self.began
        if code == CURLE_OK { return .success(self.answer(duration)) }
        // An answer whose body is endless, or breaks off, is an answer: what was asked for was heard and judged.
        if self.hasHead {
            self.isCut = true
            return .success(self.answer(duration))
        }
        if let refusedAddress { return .failure(TransferError(code: .refusedAddress, message: refusedAddress, duration: duration)) }
        if code == CURLE_ABORTED_BY_CALLBACK { return .failure(TransferError(code: .cancelled, message: "cancelled", duration: duration)) }
        let text = String(cString: curl_easy_strerror(code))
        if code == CURLE_OPERATION_TIMEDOUT {
            return .failure(TransferError(code: .timedOut, message: "no answer within \(duration.milliseconds) ms", duration: duration))
        }
        // What is said of this message, not of us: a login that fails is ours.
        if let refusal = self.mail.refusal, code == CURLE_SEND_ERROR || (code == CURLE_WEIRD_SERVER_REPLY && self.sentBytes > 0) {
            return .failure(TransferError(code: .refusedMail(permanent: refusal.isFinal), message: refusal.text, duration: duration))
        }
        let reason = self.mail.refusal.map { "\(text): \($0.text)" } ?? text
        return .failure(TransferError(code: .failed, message: reason, duration: duration))
    }

    private func answer(_ duration: Duration) -> TransferAnswer {
        var seconds: curl_off_t = 0
        let hasSeconds = carillon_easy_get_size(self.easy, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0
        return TransferAnswer(
            status: self.status, body: self.body, isCut: self.isCut || self.bodyBytes > self.body.count, retryAfter: hasSeconds ? .seconds(Int64(seconds)) : nil,
            duration: duration)
    }
}

extension Duration {
    /// Rounded down.
    var milliseconds: Int {
        let (seconds, attoseconds) = self.components
        return Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
    }
}

// The contexts are transfers that the engine holds for as long as their handle is in use.

private let writeCallback: carillon_data_callback = { bytes, size, count, context in
    guard let context else { return 0 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().take(body: UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private let headerCallback: carillon_data_callback = { bytes, size, count, context in
    guard let context else { return 0 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().take(header: UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private let readCallback: carillon_data_callback = { bytes, size, count, context in
    guard let context else { return 0 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().give(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
}

private let progressCallback: carillon_progress_callback = { context, _, _, _, _ in
    guard let context else { return 1 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().proceed()
}

private let socketCallback: carillon_socket_callback = { context, _, address in
    guard let context, let address else { return -1 }
    return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().open(address)
}
