import CoreMetrics
import NIOCore
import NIOHTTP1

/// Counts answers and how long they took, by method, route and status, through swift-metrics. One for each event loop: the table of what
/// was met before has no lock.
///
/// Labels are bounded: routes stand as they were declared, with their parameters' names, and whatever has none is `other`.
final class RequestMeter {
    private struct Key: Hashable {
        var method: String
        var route: String
        var status: UInt
    }

    private struct Instruments {
        var requests: Counter
        var seconds: Timer
    }

    static let other = "other"

    /// A method is whatever a client writes.
    private static func name(_ method: HTTPMethod) -> String {
        switch method {
        case .GET, .HEAD, .POST, .PUT, .PATCH, .DELETE, .OPTIONS: method.rawValue
        default: Self.other
        }
    }

    private let factory: any MetricsFactory
    private var known: [Key: Instruments] = [:]

    init(factory: any MetricsFactory = NOOPMetricsHandler.instance) {
        self.factory = factory
    }

    /// - Parameters:
    ///   - route: nil for what no route was found for.
    ///   - took: from the request's last byte, or of a body that is taken as it comes from its first, to the answer's head.
    func record(_ method: HTTPMethod, route: String?, status: HTTPResponseStatus, took: TimeAmount) {
        let key = Key(method: Self.name(method), route: route ?? Self.other, status: status.code)
        let instruments: Instruments
        if let found = self.known[key] {
            instruments = found
        } else {
            let labels = [("method", key.method), ("route", key.route)]
            instruments = Instruments(
                requests: Counter(label: "carillon_http_requests_total", dimensions: labels + [("status", String(status.code))], factory: self.factory),
                seconds: Timer(label: "carillon_http_request_seconds", dimensions: labels, factory: self.factory))
            self.known[key] = instruments
        }
        instruments.requests.increment()
        instruments.seconds.recordNanoseconds(took.nanoseconds)
    }
}
