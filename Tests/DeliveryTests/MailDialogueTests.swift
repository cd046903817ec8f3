import Testing

@testable import Delivery

@Suite("which replies of a mail server are a message's end")
struct MailDialogueTests {
    private func refusal(_ lines: [String]) -> MailDialogue.Refusal? {
        var dialogue = MailDialogue()
        for line in lines { dialogue.take(line) }
        return dialogue.refusal
    }

    private static let new = ["220 mx ESMTP", "250-mx", "250-SIZE 1000", "250 STARTTLS", "220 Go on", "250-mx", "250 AUTH PLAIN", "334 ", "235 2.7.0 Welcome"]

    @Test(
        "of the recipient they are final, on a new connection and on one that is used again",
        arguments: [
            ("550 5.1.1 No such user", true), ("550 No such user", true), ("551 User not local", true), ("553 5.1.3 Bad address", true), ("550 5.2.1 Disabled", true),
            ("552 5.2.2 Full", true), ("554 5.4.4 No such domain", true), ("556 5.1.10 Null MX", true), ("554 No", true),
            ("530 5.7.0 Must issue STARTTLS", false), ("550 5.7.1 Relaying denied", false), ("554 5.7.1 Client host blocked", false), ("553 5.1.8 Sender's domain", false),
            ("550 5.1.7 Sender", false), ("503 5.5.1 Bad sequence", false), ("535 5.7.8 Bad credentials", false), ("554 5.3.0 System", false), ("500 What", false),
            ("452 4.2.2 Full", false), ("421 4.3.2 Shutting down", false),
        ])
    func recipient(line: String, isFinal: Bool) {
        for lines in [Self.new + ["250 Sender ok"], ["250 2.1.0 Sender ok"]] {
            #expect(self.refusal(lines + [line]) == MailDialogue.Refusal(text: line, isFinal: isFinal))
            // The goodbye after it changes nothing.
            #expect(self.refusal(lines + [line, "221 Bye"])?.isFinal == isFinal)
        }
    }

    @Test("of the sender, the login or the greeting none is final, but for the size", arguments: ["550 5.1.1 x", "550 x", "554 5.7.1 x", "535 x", "530 x", "521 x"])
    func before(line: String) {
        for lines in [[], Array(Self.new), ["220 mx", "250 mx"], ["220 mx"]] { #expect(self.refusal(lines + [line])?.isFinal == false) }
        #expect(self.refusal(["220 mx", "250 mx", "552 5.3.4 Too big"])?.isFinal == true)
        #expect(self.refusal(["552 Too big"])?.isFinal == true)
    }

    @Test("after the message what is said of its content is final")
    func content() {
        let lines = Self.new + ["250 ok", "250 ok", "354 Go on"]
        #expect(self.refusal(lines + ["554 5.6.0 Broken"])?.isFinal == true)
        #expect(self.refusal(lines + ["550 Looks bad"])?.isFinal == true)
        #expect(self.refusal(lines + ["554 5.7.1 Policy"])?.isFinal == false)
    }

    @Test("a refusal that was got over is none: another way to log in, an older greeting")
    func recovers() {
        #expect(self.refusal(["220 mx", "250 AUTH", "535 5.7.8 No", "235 Yes", "250 ok"]) == nil)
        #expect(self.refusal(["220 mx", "502 No EHLO", "250 mx"]) == nil)
        #expect(self.refusal(["220 mx", "502 No EHLO", "250 mx", "550 Sender"])?.isFinal == false)
        #expect(self.refusal(["220 mx", "502 No EHLO", "250 mx", "250 ok", "550 Nobody"])?.isFinal == true)
    }
}
