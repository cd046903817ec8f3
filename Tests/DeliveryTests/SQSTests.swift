import NotificationCore
import Testing

@testable import Delivery

private let queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/carillon-email"

@Suite("Amazon SQS: what is said and heard")
struct SQSCallTests {
    private func text(_ call: SQSCall) -> String { String(decoding: call.body.encoded, as: UTF8.self) }

    @Test("calls have the bodies of the JSON protocol, entries are numbered")
    func bodies() {
        let url = "\"QueueUrl\":\"\(queue)\""
        #expect(self.text(.send(["a", "{\"b\"}"], to: queue)) == "{\(url),\"Entries\":[{\"Id\":\"0\",\"MessageBody\":\"a\"},{\"Id\":\"1\",\"MessageBody\":\"{\\\"b\\\"}\"}]}")
        #expect(self.text(.delete(["r"], from: queue)) == "{\(url),\"Entries\":[{\"Id\":\"0\",\"ReceiptHandle\":\"r\"}]}")
        let hidden = self.text(.hide([("r", 15), ("s", 99_999), ("t", -1)], in: queue))
        #expect(hidden.contains("\"ReceiptHandle\":\"r\",\"VisibilityTimeout\":15}") && hidden.contains("\"VisibilityTimeout\":43200}") && hidden.contains("\"VisibilityTimeout\":0}"))
        #expect(
            self.text(.receive(99, from: queue, wait: 20, hidden: 15))
                == "{\(url),\"MaxNumberOfMessages\":10,\"WaitTimeSeconds\":20,\"VisibilityTimeout\":15}")
        #expect(SQSCall.receive(1, from: queue, wait: 0, hidden: 1).operation == "ReceiveMessage" && SQSCall.depth(of: queue).operation == "GetQueueAttributes")
    }

    @Test(
        "an entry has been taken when the answer says so, and not else",
        arguments: [
            ("{\"Successful\":[{\"Id\":\"0\"},{\"Id\":\"1\"}]}", [nil, nil]),
            ("{\"Successful\":[{\"Id\":\"1\"}],\"Failed\":[{\"Id\":\"0\",\"Code\":\"InternalError\",\"Message\":\"no\"}]}", ["InternalError: no", nil]),
            ("{\"Successful\":[{\"Id\":\"0\"}],\"Failed\":[{\"Id\":\"0\",\"Code\":\"Both\"}]}", ["Both", "nothing is said of it"]),
            ("{\"Successful\":[{\"Id\":\"7\"},{\"Id\":3},4],\"Failed\":{}}", ["nothing is said of it", "nothing is said of it"]),
            ("{}", ["nothing is said of it", "nothing is said of it"]),
        ])
    func batches(_ answer: String, _ failures: [String?]) throws {
        #expect(SQSBatchAnswer(try JSONParser.parse(Array(answer.utf8)), count: 2).failures == failures)
    }

    @Test("messages without a receipt are none; one says which task, or somebody else has written it")
    func messages() throws {
        let id = NotificationID.make()
        let json = try JSONParser.parse(Array("{\"Messages\":[{\"Body\":\"b\",\"ReceiptHandle\":\"r\"},{\"Body\":\"c\"},{\"ReceiptHandle\":\"s\"},7]}".utf8))
        #expect(SQSMessage.list(json) == [SQSMessage(body: "b", receipt: "r"), SQSMessage(body: "", receipt: "s")])
        #expect(SQSMessage.list(.object([])).isEmpty)
        #expect(TaskMessage.task(TaskMessage.text(id)) == id)
        for foreign in ["", "x", "{}", "[]", "{\"task\":7}", "{\"task\":\"7\"}", "{\"task\":\"\(id)\""] { #expect(TaskMessage.task(foreign) == nil) }
    }

    @Test(
        "an error has the service's code where there is one",
        arguments: [
            (400, "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"message\":\"no queue\"}", false, "QueueDoesNotExist: answered 400: no queue"),
            (403, "{\"__type\":\"InvalidSignatureException\"}", false, "InvalidSignatureException: answered 403"),
            (503, "<html>", false, "answered 503 and no JSON"), (200, "", false, "answered 200 and no JSON"),
            (200, "{\"Messages\":[]}", true, "the answer did not come to its end"),
        ])
    func errors(_ status: Int, _ body: String, _ isCut: Bool, _ text: String) {
        let answer = TransferAnswer(status: status, body: Array(body.utf8), isCut: isCut, retryAfter: nil, duration: .zero)
        do throws(SQSError) {
            _ = try SQSClient.judge(answer)
            Issue.record("no error")
        } catch {
            #expect(error.description == text)
        }
    }

    @Test("a queue's URL is the prefix and its name, and calls go to the service itself")
    func places() throws {
        let credentials = AWSCredentials(accessKeyID: "a", secretAccessKey: "b")
        let place = try SQSPlace(credentials: credentials, region: "eu-central-1", prefix: "https://sqs.eu-central-1.amazonaws.com/123456789012/carillon-")
        #expect(place.prefix == "https://sqs.eu-central-1.amazonaws.com/123456789012/carillon-" && place.endpoint == "https://sqs.eu-central-1.amazonaws.com/")
        #expect(place.host == "sqs.eu-central-1.amazonaws.com")
        let local = try SQSPlace(credentials: credentials, region: "r", prefix: "http://127.0.0.1:4566/000000000000/")
        #expect(local.prefix == "http://127.0.0.1:4566/000000000000/" && local.endpoint == "http://127.0.0.1:4566/" && local.host == "127.0.0.1:4566")
        for wrong in ["", "sqs", "https://sqs.eu-central-1.amazonaws.com", "ftp://x/1/c-", "https://x/1/c-?a=b"] {
            #expect(throws: SenderSettingError.self) { try SQSPlace(credentials: credentials, region: "r", prefix: wrong) }
        }
    }

    /// The signatures are botocore 1.44.5's of the same requests.
    @Test(
        "the operation is signed with the rest, as Amazon's own library does it",
        arguments: [
            (nil, "content-type;host;x-amz-date;x-amz-target", "1bc161c03c6f312b935162b4caf6aec5a8676b1e3d95d491d7874e5fdead7980"),
            (
                "a-session/token==", "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
                "12b4597e111e3cb5750b57328944d6808f26dde16dab9338a0dc7519c28da82d"
            ),
        ])
    func signature(_ token: String?, _ names: String, _ signature: String) throws {
        let signer = AWSSignature(
            credentials: AWSCredentials(accessKeyID: "AKIATEST", secretAccessKey: "secret/key+", sessionToken: token), region: "eu-central-1", service: "sqs")
        let headers = signer.headers(
            host: "sqs.eu-central-1.amazonaws.com", contentType: "application/x-amz-json-1.0", target: "AmazonSQS.ReceiveMessage",
            body: Array("{\"QueueUrl\":\"\(queue)\"}".utf8), now: try #require(Timestamp("2026-11-21T10:30:00Z")))
        #expect(headers.contains("x-amz-target: AmazonSQS.ReceiveMessage") && headers.contains("x-amz-date: 20261121T103000Z"))
        #expect(
            headers.last
                == "Authorization: AWS4-HMAC-SHA256 Credential=AKIATEST/20261121/eu-central-1/sqs/aws4_request, SignedHeaders=\(names), Signature=\(signature)")
    }
}

@Suite("messages in a node's hands")
struct SQSHandsTests {
    private let start = ContinuousClock.now
    private let ids = (0..<12).map { _ in NotificationID.make() }

    private func message(_ task: Int, _ receipt: String, after: Duration = .zero) -> SQSHands.Received {
        SQSHands.Received(task: self.ids[task], receipt: receipt, at: self.start + after)
    }

    @Test("a message is deleted when its task's result is written, and makes room then")
    func settles() {
        var hands = SQSHands(bound: 3, hidden: 15)
        #expect(hands.room == 3)
        hands.receive([self.message(0, "a"), self.message(1, "b")])
        #expect(hands.room == 1)
        let batch = hands.next(10, now: self.start)
        #expect(batch.map(\.receipt) == ["a", "b"])
        #expect(hands.took([self.ids[0], self.ids[1]], busy: [:], of: batch) == 0)
        #expect(hands.takeErrands().isEmpty)
        #expect(hands.room == 1)
        #expect(hands.receipts(of: [self.ids[1], self.ids[5]]) == ["b"])
        hands.settle(self.ids[0])
        // Taken with another of its user: no message of it is here.
        hands.settle(self.ids[7])
        #expect(hands.takeErrands().delete == ["a"])
        #expect(hands.takeErrands().isEmpty)
        #expect(hands.room == 2)
    }

    @Test("duplicates and stale ones are deleted, those of others are hidden for as long as they need")
    func duplicates() {
        var hands = SQSHands(bound: 10, hidden: 15)
        hands.receive([self.message(0, "a"), self.message(0, "a again"), self.message(1, "gone"), self.message(2, "theirs")])
        let batch = hands.next(10, now: self.start)
        #expect(batch.map(\.receipt) == ["a", "gone", "theirs"])
        #expect(hands.took([self.ids[0], self.ids[9]], busy: [self.ids[2]: 7], of: batch) == 1)
        let errands = hands.takeErrands()
        #expect(errands.delete == ["a again", "gone"] && errands.hide.map(\.receipt) == ["theirs"] && errands.hide.map(\.seconds) == [7])
        #expect(hands.room == 9)
    }

    @Test("one that came again while it was under way is deleted by the receipt of the last time")
    func comesAgain() {
        var hands = SQSHands(bound: 10, hidden: 15)
        hands.receive([self.message(0, "first")])
        #expect(hands.took([self.ids[0]], busy: [:], of: hands.next(10, now: self.start)) == 0)
        hands.receive([self.message(0, "second")])
        #expect(hands.took([], busy: [self.ids[0]: 4], of: hands.next(10, now: self.start)) == 0)
        #expect(hands.takeErrands().hide.map(\.receipt) == ["second"])
        #expect(hands.receipts(of: [self.ids[0]]) == ["second"])
        hands.settle(self.ids[0])
        #expect(hands.takeErrands().delete == ["second"])
        #expect(hands.room == 10)
    }

    @Test("one that lay for most of the time for which it is hidden is let go of: others may have it already")
    func patience() {
        var hands = SQSHands(bound: 10, hidden: 10)
        hands.receive([self.message(0, "old"), self.message(1, "new", after: .seconds(2))])
        #expect(hands.next(10, now: self.start + .seconds(8)).map(\.receipt) == ["new"])
        #expect(hands.takeErrands().isEmpty)
        #expect(hands.room == 10)
    }

    @Test("what could not be taken is the first next time, and what is left at the end is anybody's at once")
    func gaveBack() {
        var hands = SQSHands(bound: 10, hidden: 15)
        hands.receive((0..<4).map { self.message($0, "\($0)") })
        let batch = hands.next(2, now: self.start)
        hands.giveBack(batch)
        #expect(hands.next(3, now: self.start).map(\.receipt) == ["0", "1", "2"])
        hands.release()
        let errands = hands.takeErrands()
        #expect(errands.hide.map(\.receipt) == ["3"] && errands.hide.map(\.seconds) == [0] && errands.delete.isEmpty)
    }
}
