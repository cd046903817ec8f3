import Testing

@testable import NotificationCore

@Suite("By which channels a recipient gets a notification")
struct RecipientRoutingTests {
    private static let night = Timestamp("2026-01-15T23:00:00Z")!
    private static let everything: Set<DeliveryChannel> = [.inApp, .email, .sms, .telegram]
    private static let reachable = Contact(email: "a@b.c", phone: "+123456", telegramChatID: "7")

    private static let catalogue: Catalogue = {
        var mail = Catalogue.Event()
        mail.channels = [.inApp, .email]
        var safe = Catalogue.Event()
        safe.required = [.email]
        var none = Catalogue.Event()
        none.channels = []
        let delayed = Catalogue.Event(channels: [.email], email: Catalogue.EmailPolicy(delaySeconds: 600, unlessRead: true))
        let gathered = Catalogue.Event(channels: [.email], digest: .daily)
        return try! Catalogue([
            Catalogue.Kind(
                name: "chat",
                events: ["plain": Catalogue.Event(), "mail": mail, "safe": safe, "none": none, "delayed": delayed, "gathered": gathered])
        ])
    }()

    private func request(_ event: String, _ members: String = "") throws -> NotifyRequest {
        try NotifyRequest(
            json: json("{\"user_id\":\"u\",\"type\":\"chat\",\"event\":\"\(event)\",\"title\":\"t\"\(members)}"), catalogue: Self.catalogue, now: Self.night)
    }

    private func preferences(_ text: String) throws -> Preferences {
        try PreferencesPatch(json(text), catalogue: Self.catalogue).applied(to: Preferences())
    }

    private func route(
        _ request: NotifyRequest, _ own: String? = nil, customer: String? = nil, contact: Contact? = Self.reachable, configured: Set<DeliveryChannel> = Self.everything
    ) throws -> RecipientRouting {
        let recipient = Recipient(own: try own.map(self.preferences), customer: try customer.map(self.preferences), contact: contact)
        return RecipientRouting(recipient, of: request, now: Self.night, configured: configured)
    }

    @Test("nobody said anything: the catalogue's channels, and no word about the others")
    func silent() throws {
        let plain = try self.route(self.request("plain"), contact: nil)
        #expect(plain.inApp && plain.sendings.isEmpty && plain.suppressed.isEmpty && plain.skipped == nil)
        let mail = try self.route(self.request("mail"))
        #expect(mail.inApp && mail.sendings.map(\.endpoint) == ["a@b.c"] && mail.suppressed.isEmpty)
        let none = try self.route(self.request("none"))
        #expect(!none.inApp && none.skipped == .notConfigured)
    }

    @Test("a user's word adds a channel or takes one away; what was meant and does not go is told with its reason")
    func words() throws {
        let more = try self.route(self.request("plain"), #"{"sms":true}"#)
        #expect(more.inApp && more.sendings.map(\.channel) == [.sms])
        let less = try self.route(self.request("mail"), #"{"email":false,"sms":false}"#)
        #expect(less.inApp && less.sendings.isEmpty)
        #expect(less.suppressed == [RecipientRouting.Suppressed(channel: .email, reason: .preference)])
        let off = try self.route(self.request("plain"), #"{"in_app":false}"#)
        #expect(!off.inApp && off.skipped == .preference)
        let elsewhere = try self.route(self.request("mail"), #"{"in_app":false}"#)
        #expect(!elsewhere.inApp && elsewhere.skipped == nil && elsewhere.sendings.map(\.channel) == [.email])
        let customer = try self.route(self.request("plain"), #"{"in_app":false}"#, customer: #"{"in_app":true}"#)
        #expect(customer.inApp)
    }

    @Test("what the request names narrows it, also against a user's wish for more")
    func narrowed() throws {
        let named = try self.route(self.request("mail", #","channels":["in_app"]"#), #"{"email":true,"sms":true}"#)
        #expect(named.inApp && named.sendings.isEmpty && named.suppressed.isEmpty)
        let other = try self.route(self.request("plain", #","channels":["telegram"]"#))
        #expect(!other.inApp && other.sendings.map(\.endpoint) == ["7"] && other.skipped == nil)
        let refused = try self.route(self.request("plain", #","channels":["telegram"]"#), #"{"telegram":false}"#)
        #expect(refused.skipped == .preference)
        let hook = try self.route(self.request("plain", #","channels":["webhook"]"#), #"{"channels":false}"#)
        #expect(!hook.inApp && hook.skipped == nil && hook.suppressed.isEmpty)
    }

    @Test("a channel without address or sender is suppressed; the most telling reason is the one for being left out")
    func reasons() throws {
        let all = #","channels":["email","sms","telegram"]"#
        let mixed = try self.route(self.request("plain", all), #"{"sms":false}"#, contact: Contact(telegramChatID: "7"), configured: [.inApp])
        #expect(mixed.suppressed.map(\.reason) == [.noContact, .preference, .notConfigured] && mixed.skipped == .preference)
        #expect(try self.route(self.request("plain", all), contact: Contact(telegramChatID: "7"), configured: [.inApp]).skipped == .noContact)
        #expect(try self.route(self.request("plain", all), contact: nil).skipped == .noContact)
        #expect(try self.route(self.request("plain", all), configured: [.inApp]).skipped == .notConfigured)
        let one = try self.route(self.request("plain", all), #"{"sms":false}"#, contact: Contact(email: "a@b.c"))
        #expect(one.skipped == nil && one.sendings.map(\.channel) == [.email] && one.suppressed.map(\.reason) == [.preference, .noContact])
    }

    @Test("what is required goes, whatever was said, unless the application itself narrows it")
    func required() throws {
        let routed = try self.route(self.request("safe"), #"{"channels":false}"#, customer: #"{"channels":false}"#)
        #expect(!routed.inApp && routed.sendings.map(\.channel) == [.email])
        #expect(routed.suppressed == [RecipientRouting.Suppressed(channel: .inApp, reason: .preference)])
        #expect(try self.route(self.request("safe"), contact: nil).suppressed.map(\.reason) == [.noContact])
        #expect(try self.route(self.request("safe", #","channels":["in_app"]"#)).sendings.isEmpty)
    }

    @Test("quiet hours hold back e-mail and text until their end, but nothing in the application, urgent, or required")
    func quiet() throws {
        let hours = #""quiet_hours":{"start":"22:00","end":"07:00"}"#
        let all = "{\"channels\":true,\(hours)}"
        let held = try self.route(self.request("plain"), all)
        #expect(held.inApp)
        #expect(held.sendings.map { $0.notBefore?.description } == ["2026-01-16T07:00:00Z", "2026-01-16T07:00:00Z", nil])
        #expect(held.sendings.map(\.channel) == [.email, .sms, .telegram])
        #expect(try self.route(self.request("plain", #","priority":"URGENT""#), all).sendings.allSatisfy { $0.notBefore == nil })
        #expect(try self.route(self.request("safe"), all).sendings.map { $0.notBefore == nil } == [true, false, true])
        // By the clocks of the contact; for the customer before in general; when it is due.
        var tokyo = Self.reachable
        tokyo.timezone = TimeZoneName("Asia/Tokyo")
        #expect(try self.route(self.request("plain"), all, contact: tokyo).sendings[0].notBefore == nil)
        #expect(try self.route(self.request("plain"), all, customer: #"{"quiet_hours":{"start":"01:00","end":"02:00"}}"#).sendings[0].notBefore == nil)
        #expect(try self.route(self.request("plain", #","deliver_at":"2026-01-16T12:00:00Z""#), all).sendings[0].notBefore?.description == "2026-01-16T12:00:00Z")
        #expect(try self.route(self.request("plain", #","deliver_at":"2026-01-17T03:00:00Z""#), all).sendings[0].notBefore?.description == "2026-01-17T07:00:00Z")
    }

    @Test("an event's delay holds its e-mails back, from when it is due; quiet hours are those of that time")
    func delay() throws {
        #expect(try self.route(self.request("delayed")).sendings.map { $0.notBefore?.description } == ["2026-01-15T23:10:00Z"])
        let scheduled = try self.route(self.request("delayed", #","deliver_at":"2026-01-16T12:00:00Z""#))
        #expect(scheduled.sendings.map { $0.notBefore?.description } == ["2026-01-16T12:10:00Z"])
        let quiet = try self.route(self.request("delayed"), #"{"quiet_hours":{"start":"23:05","end":"07:00"}}"#)
        #expect(quiet.sendings.map { $0.notBefore?.description } == ["2026-01-16T07:00:00Z"])
        let urgent = try self.route(self.request("delayed", #","priority":"URGENT""#), #"{"quiet_hours":{"start":"23:05","end":"07:00"}}"#)
        #expect(urgent.sendings.map { $0.notBefore?.description } == ["2026-01-15T23:10:00Z"])
    }

    @Test("e-mails are gathered as the user wishes, else as the catalogue says; what is urgent or required is not, nor are other channels")
    func digests() throws {
        func times(_ event: String, _ own: String?, customer: String? = nil, _ more: String = "") throws -> [String] {
            try self.route(self.request(event, more), own, customer: customer).sendings.map { "\($0.channel.rawValue) \($0.isGathered) \($0.notBefore?.description ?? "-")" }
        }
        let hourly = #"{"digest":{"email":"hourly"},"channels":true}"#
        #expect(try times("plain", hourly) == ["email true 2026-01-16T00:00:00Z", "sms false -", "telegram false -"])
        #expect(try times("gathered", nil) == ["email true 2026-01-16T08:00:00Z"])
        #expect(try times("gathered", #"{"digest":{"email":"immediate"}}"#) == ["email false -"])
        #expect(try times("gathered", #"{"digest":{"email":"immediate"}}"#, customer: #"{"digest":{"email":"hourly"}}"#) == ["email true 2026-01-16T00:00:00Z"])
        #expect(try times("gathered", nil, #","priority":"URGENT""#) == ["email false -"])
        #expect(try times("safe", #"{"digest":{"email":"daily"}}"#) == ["email false -"])
        #expect(try times("gathered", #"{"quiet_hours":{"start":"22:00","end":"09:30"}}"#) == ["email true 2026-01-16T09:30:00Z"])
        #expect(try times("gathered", #"{"quiet_hours":{"start":"01:00","end":"02:00","timezone":"Asia/Tokyo"}}"#) == ["email true 2026-01-16T23:00:00Z"])
    }
}
