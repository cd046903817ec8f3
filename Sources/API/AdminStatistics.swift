import Gateway
import NIOHTTP1
import NotificationCore
import NotificationStore

/// Totals by day, and what waits.
struct AdminStatistics: Sendable {
    let totals: TotalsStore
    let queues: QueueDepths
    let credentials: Credentials

    /// `GET /v1/admin/stats`: from the totals that a worker keeps, some seconds behind.
    func totals(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let administrator = try await Administrator(context.request, self.credentials)
        var query = try StatisticsQuery.parse(context.request.query)
        try administrator.check(customer: query.filters[.customer])
        query.customers = administrator.customers
        let (rows, sums) = (query, Self.sums(query))
        let (found, states) = try await stored(administrationFailure, context) { () async throws(StoreError) in
            (try await self.totals.read(rows), try await self.totals.read(sums))
        }
        guard found.rows.count <= TotalsStore.rowBound else {
            throw .invalidField("group_by", "more than \(TotalsStore.rowBound) rows: narrow the range, filter, or group by less")
        }
        let data: [JSONValue] = found.rows.map { row in
            var members: [(name: String, value: JSONValue)] = zip(query.dimensions, row.values).map {
                ($0.rawValue, $1.isEmpty ? .null : .string($1))
            }
            members.append(("count", .number(String(row.count))))
            if row.latency.timed > 0 { members.append(("latency", Self.json(row.latency))) }
            return .object(members)
        }
        return .json(.ok, JSONValue.object([
            ("since", .string(query.since)), ("until", .string(query.until)), ("counted_until", .string(found.countedUntil.description)),
            ("group_by", .array(query.dimensions.map { .string($0.rawValue) })), ("data", .array(data)), ("summary", Self.summary(states.rows)),
        ]).encoded)
    }

    /// The same range by channel and state alone.
    private static func sums(_ query: TotalsQuery) -> TotalsQuery {
        var sums = query
        sums.dimensions = [.channel, .state]
        sums.filters[.state] = nil
        return sums
    }

    /// Of the inbox: how many were created, what became of them, and how soon they were read.
    private static func summary(_ rows: [Totals.Row]) -> JSONValue {
        func row(_ state: String) -> Totals.Row? { rows.first { $0.values == ["in_app", state] } }
        let created = row("created")?.count ?? 0
        let read = row("read")?.count ?? 0
        var members: [(name: String, value: JSONValue)] = ["created", "read", "deleted", "expired", "replaced"].map {
            ($0, .number(String(row($0)?.count ?? 0)))
        }
        let channels = rows.reduce(into: [(name: String, value: JSONValue)]()) { channels, row in
            let state = (row.values[1], JSONValue.number(String(row.count)))
            if case .object(let states)? = channels.last?.value, channels.last?.name == row.values[0] {
                channels[channels.count - 1].value = .object(states + [state])
            } else {
                channels.append((row.values[0], .object([state])))
            }
        }
        members.append(("by_channel", .object(channels)))
        members.append(("read_rate", created == 0 ? .null : Self.number(Double(read) / Double(created))))
        members.append(("read_latency", row("read").flatMap { $0.latency.timed > 0 ? Self.json($0.latency) : nil } ?? .null))
        return .object(members)
    }

    private static func json(_ latency: Totals.Latency) -> JSONValue {
        .object([
            ("timed", .number(String(latency.timed))), ("mean_seconds", Self.number(latency.seconds / Double(max(1, latency.timed)))),
            ("within_minute", .number(String(latency.withinMinute))), ("within_hour", .number(String(latency.withinHour))),
            ("within_day", .number(String(latency.withinDay))),
        ])
    }

    /// With thousandths.
    private static func number(_ value: Double) -> JSONValue { .number(String((value * 1000).rounded() / 1000)) }

    /// `GET /v1/admin/queues`
    func depths(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        let depths = try await stored(administrationFailure, context) { () async throws(StoreError) in try await self.queues.read() }
        return .json(.ok, JSONValue.object([
            ("data", .array(depths.map { depth in
                .object([
                    ("queue", .string(depth.queue)), ("state", depth.state.map { .string($0) } ?? .null), ("depth", .number(String(depth.depth))),
                    ("at_least", .bool(depth.depth >= QueueDepths.bound)), ("oldest_seconds", depth.oldestSeconds.map(Self.number) ?? .null),
                ])
            }))
        ]).encoded)
    }
}

/// The query of the statistics, checked.
enum StatisticsQuery {
    /// Days of one answer.
    static let rangeBound: Int64 = 366
    private static let defaultDays: Int64 = 30
    private static let defaultDimensions: [TotalsQuery.Dimension] = [.day, .channel, .type, .event, .state]
    private static let daySeconds: Int64 = 86_400

    static func parse(_ query: Query, now: Timestamp = .now()) throws(Problem) -> TotalsQuery {
        var reader = ParameterReader(query)
        let since = self.time("since", &reader)
        let until = self.time("until", &reader)
        // Whole days: a day that the range touches belongs to it.
        let last = self.days(until ?? now, roundedUp: true, orNext: until == nil)
        let first = since.map { self.days($0, roundedUp: false) } ?? last - self.defaultDays
        if first >= last {
            reader.fail("until", "must be after since")
        } else if last - first > self.rangeBound {
            reader.fail("since", "must be at most \(self.rangeBound) days before until")
        }
        var dimensions = self.defaultDimensions
        if let text = reader.text("group_by") {
            let words = text.split(separator: ",", omittingEmptySubsequences: false)
            dimensions = words.compactMap { TotalsQuery.Dimension(rawValue: String($0)) }
            if dimensions.count != words.count || Set(dimensions).count != words.count {
                reader.fail("group_by", "must be some of " + TotalsQuery.Dimension.allCases.map(\.rawValue).joined(separator: ", ") + ", each once")
            }
        }
        var result = TotalsQuery(since: self.day(first), until: self.day(last), dimensions: dimensions)
        for dimension in TotalsQuery.Dimension.allCases where dimension != .day {
            if let word = reader.word(dimension.rawValue) { result.filters[dimension] = word }
        }
        try reader.check()
        return result
    }

    /// An RFC 3339 time, or its date alone.
    private static func time(_ name: String, _ reader: inout ParameterReader) -> Timestamp? {
        guard let text = reader.text(name) else { return nil }
        if let time = Timestamp(text.utf8.count == 10 ? text + "T00:00:00Z" : text) { return time }
        reader.fail(name, "must be a date or an RFC 3339 time")
        return nil
    }

    private static func days(_ time: Timestamp, roundedUp: Bool, orNext: Bool = false) -> Int64 {
        let (quotient, remainder) = time.microseconds.quotientAndRemainder(dividingBy: self.daySeconds * 1_000_000)
        let floor = remainder < 0 ? quotient - 1 : quotient
        return roundedUp && (remainder != 0 || orNext) ? floor + 1 : floor
    }

    private static func day(_ days: Int64) -> String { String(Timestamp(seconds: days * self.daySeconds).description.prefix(10)) }
}
