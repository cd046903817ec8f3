import SeededRandom
import Testing

@testable import NotificationCore

@Suite("Whether a channel gets a notification")
struct ChannelDecisionTests {
    private struct Asked {
        var channel = DeliveryChannel.email
        var type = "chat"
        var event: String? = "message_received"
        var required: Set<DeliveryChannel> = []
        var byDefault = true

        func decide(_ own: Preferences?, _ customer: Preferences?) -> ChannelDecision {
            ChannelDecision(channel, type: type, event: event, own: own, customer: customer, required: required, byDefault: byDefault)
        }
    }

    private static let channel = #"{"channels":{"email":false}}"#
    private static let type = #"{"channels":{"email":false},"types":{"chat":{"channels":{"email":true}}}}"#
    private static let event = #"{"channels":{"email":true},"types":{"chat":{"channels":{"email":true},"events":{"message_received":{"email":false}}}}}"#

    @Test(
        "the first word found wins, the customer's before the user's own at each step",
        arguments: [
            (nil, nil, true, ChannelDecision.Reason.catalogue),
            ("{}", "{}", true, .catalogue),
            (#"{"channels":{"sms":false}}"#, #"{"types":{"task":{"channels":{"email":false}}}}"#, true, .catalogue),
            (channel, nil, false, .channel),
            (channel, #"{"channels":{"email":true}}"#, true, .customerChannel),
            (type, channel, true, .type),
            (type, #"{"types":{"chat":{"channels":{"email":false}}}}"#, false, .customerType),
            (event, #"{"types":{"chat":{"channels":{"email":true}}}}"#, false, .event),
            (event, event, false, .customerEvent),
            (event, #"{"types":{"chat":{"events":{"message_received":{"email":true}}}}}"#, true, .customerEvent),
            (event, #"{"types":{"chat":{"events":{"mentioned":{"email":true}}}}}"#, false, .event),
        ] as [(String?, String?, Bool, ChannelDecision.Reason)])
    func firstWord(_ own: String?, _ customer: String?, _ enabled: Bool, _ reason: ChannelDecision.Reason) throws {
        let (own, customer) = (try own.map(PreferenceExamples.parse), try customer.map(PreferenceExamples.parse))
        #expect(Asked().decide(own, customer) == ChannelDecision(enabled: enabled, reason: reason))
        #expect(Asked(required: [.email]).decide(own, customer) == ChannelDecision(enabled: true, reason: .required))
    }

    @Test("without an event what was said of events does not count, and a default of no is no")
    func withoutEvent() throws {
        let own = try PreferenceExamples.parse(Self.event)
        #expect(Asked(event: nil).decide(own, nil) == ChannelDecision(enabled: true, reason: .type))
        #expect(Asked(channel: .sms, byDefault: false).decide(own, nil) == ChannelDecision(enabled: false, reason: .catalogue))
        #expect(Asked(channel: .sms, required: [.sms], byDefault: false).decide(own, nil).enabled)
    }

    // MARK: Against a plain reading of the rule

    private static let types = [("chat", ["message_received", "mentioned"]), ("task", ["task_assigned"])]

    private static func words(_ generator: inout SeededGenerator) -> JSONValue {
        var members: [(name: String, value: JSONValue)] = []
        for channel in DeliveryChannel.ofUsers where generator.chance(40) { members.append((channel.rawValue, .bool(generator.chance(50)))) }
        return .object(members)
    }

    private static func preferences(_ generator: inout SeededGenerator) -> JSONValue {
        var members: [(name: String, value: JSONValue)] = []
        if generator.chance(60) { members.append(("channels", self.words(&generator))) }
        var types: [(name: String, value: JSONValue)] = []
        for (type, names) in self.types where generator.chance(60) {
            var events: [(name: String, value: JSONValue)] = []
            for name in names where generator.chance(60) { events.append((name, self.words(&generator))) }
            var own: [(name: String, value: JSONValue)] = [("events", .object(events))]
            if generator.chance(60) { own.append(("channels", self.words(&generator))) }
            types.append((type, .object(own)))
        }
        members.append(("types", .object(types)))
        return .object(members)
    }

    /// The sentence of the contract, read from the JSON itself.
    private static func oracle(
        _ channel: String, _ type: String, _ event: String?, own: JSONValue, customer: JSONValue, required: Bool, byDefault: Bool
    ) -> (Bool, String) {
        if required { return (true, "required") }
        var places: [(JSONValue?, String)] = []
        if let event {
            places.append((customer["types"]?[type]?["events"]?[event], "customer_event"))
            places.append((own["types"]?[type]?["events"]?[event], "event"))
        }
        places.append((customer["types"]?[type]?["channels"], "customer_type"))
        places.append((own["types"]?[type]?["channels"], "type"))
        places.append((customer["channels"], "customer_channel"))
        places.append((own["channels"], "channel"))
        for (place, reason) in places {
            if case .bool(let word)? = place?[channel] { return (word, reason) }
        }
        return (byDefault, "catalogue")
    }

    @Test("a thousand random users are decided for as the sentence of the contract says, also after storing and merging", arguments: 1...4)
    func random(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var reasons: Set<String> = []
        for _ in 0..<250 {
            let (ownJSON, customerJSON) = (Self.preferences(&generator), Self.preferences(&generator))
            let catalogue = PreferenceExamples.catalogue
            let own = try PreferencesPatch(ownJSON, catalogue: catalogue).applied(to: Preferences())
            let customer = try PreferencesPatch(customerJSON, catalogue: catalogue).applied(to: Preferences())
            #expect(try Preferences(stored: String(decoding: own.json.encoded, as: UTF8.self)) == own)
            // A patch with all of it onto anything else: what it says is said.
            let merged = try PreferencesPatch(ownJSON, catalogue: catalogue).applied(to: customer)
            let mergedJSON = customerJSON.merging(ownJSON)
            for (type, events) in Self.types {
                for event in events.map(Optional.some) + [nil] {
                    for channel in DeliveryChannel.ofUsers {
                        let (required, byDefault) = (generator.chance(15), generator.chance(50))
                        func check(_ own: Preferences, _ customer: Preferences, _ ownJSON: JSONValue, _ customerJSON: JSONValue) {
                            let decided = ChannelDecision(
                                channel, type: type, event: event, own: own, customer: customer, required: required ? [channel] : [], byDefault: byDefault)
                            let (enabled, reason) = Self.oracle(
                                channel.rawValue, type, event, own: ownJSON, customer: customerJSON, required: required, byDefault: byDefault)
                            #expect(decided.enabled == enabled && decided.reason.rawValue == reason)
                            if required { #expect(decided.enabled) }
                            reasons.insert(reason)
                        }
                        check(own, customer, ownJSON, customerJSON)
                        check(merged, Preferences(), mergedJSON, .object([]))
                        // What was said for one customer is silent for another.
                        let elsewhere = ChannelDecision(
                            channel, type: type, event: event, own: own, customer: nil, required: required ? [channel] : [], byDefault: byDefault)
                        #expect(!elsewhere.reason.rawValue.hasPrefix("customer_"))
                        #expect(elsewhere == ChannelDecision(
                            channel, type: type, event: event, own: own, customer: Preferences(), required: required ? [channel] : [], byDefault: byDefault))
                    }
                }
            }
        }
        #expect(reasons == Set(ChannelDecision.Reason.allCases.map(\.rawValue)))
    }
}
