"""The queue by way of Amazon SQS: a server that speaks as it does (moto), and before it a proxy that checks every signature with Amazon's own library, keeps what
was said, and does to the calls what networks and services do."""

import asyncio
import collections
import email
import email.policy
import http.client
import http.server
import json
import threading

import boto3
import pytest
import requests
from aiosmtpd.controller import Controller
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

from servers import PATIENCE, World, free_port, until

QUEUES = ["digest", "email", "webhook"]
LEASE = 3


class Proxy:
    """Before moto. `refuse` and `double` are asked about each SendMessageBatch."""

    def __init__(self, target):
        self.target = target
        self.calls = []
        self.forged = []
        self.is_down = False
        self.refuse = self.double = self.lose = lambda entry: False
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = proxy.answer({name.lower(): value for name, value in self.headers.items()}, body)
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/x-amz-json-1.0")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    # Whoever asked is dead.
                    self.close_connection = True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:{}".format(self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forward(self, headers, body):
        connection = http.client.HTTPConnection(self.target, timeout=60)
        connection.request("POST", "/", json.dumps(body), {name: value for name, value in headers.items() if name not in ("host", "content-length")})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def check(self, headers, body):
        request = AWSRequest("POST", self.url + "/", data=body, headers={
            "Content-Type": headers["content-type"], "X-Amz-Target": headers["x-amz-target"], "X-Amz-Date": headers["x-amz-date"]})  # fmt: skip
        request.context["timestamp"] = headers["x-amz-date"]
        signer = SigV4Auth(Credentials("AKIATEST", "secret/key+"), "sqs", "eu-central-1")
        signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        signed = signer.signed_headers(signer.headers_to_sign(request))
        if not headers["authorization"].endswith(f"/eu-central-1/sqs/aws4_request, SignedHeaders={signed}, Signature={signature}"):
            self.forged.append(headers)

    def answer(self, headers, raw):
        self.check(headers, raw)
        body = json.loads(raw)
        operation = headers["x-amz-target"].removeprefix("AmazonSQS.")
        self.calls.append((operation, body))
        if self.is_down:
            return None
        if operation != "SendMessageBatch":
            status, content = self.forward(headers, body)
            return None if self.is_down else (status, content)
        refused = [entry for entry in body["Entries"] if self.refuse(entry)]
        lost = [entry for entry in body["Entries"] if entry not in refused and self.lose(entry)]
        body["Entries"] = [entry for entry in body["Entries"] if entry not in refused + lost]
        result = {"Successful": [], "Failed": []}
        if body["Entries"]:
            again = [entry for entry in body["Entries"] if self.double(entry)]
            result = json.loads(self.forward(headers, body)[1])
            if again:
                self.forward(headers, body | {"Entries": again})
        result["Successful"] += [{"Id": entry["Id"], "MessageId": "lost", "MD5OfMessageBody": ""} for entry in lost]
        result["Failed"] = [{"Id": entry["Id"], "SenderFault": False, "Code": "InternalError", "Message": "not now"} for entry in refused]
        return 200, json.dumps(result).encode()

    def of(self, operation, queue="email"):
        return [body for name, body in list(self.calls) if name == operation and body["QueueUrl"].endswith("-" + queue)]


class Mailbox:
    """A mail server. While `gate` is shut a message is held until it opens."""

    def __init__(self):
        self.subjects, self.held = collections.Counter(), collections.Counter()
        self.is_shut = False
        self.refuse_once = set()
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self.controller.start()

    async def handle_DATA(self, server, session, envelope):
        subject = email.message_from_bytes(envelope.content, policy=email.policy.SMTP)["subject"]
        key = (envelope.rcpt_tos[0].split("@")[0], subject)
        if key[0] in self.refuse_once:
            self.refuse_once.remove(key[0])
            return "451 4.7.1 Later"
        self.held[key] += 1
        while self.is_shut:
            await asyncio.sleep(0.02)
        self.subjects[key] += 1
        return "250 2.0.0 Taken"


class Bench:
    def __init__(self, world, proxy, mailbox, sqs):
        self.world, self.proxy, self.mailbox, self.sqs = world, proxy, mailbox, sqs
        self.worker = world.workers[0]

    def sql(self, text):
        return self.world.postgres.sql(text, "carillon")

    def users(self, count):
        names = [self.world.user("mail") for _ in range(count)]
        values = ", ".join(f"('{name}', '{name}@example.org', now())" for name in names)
        self.sql(f"INSERT INTO contacts (user_id, email, updated_at) VALUES {values}")
        return names

    def email(self, users, title, **fields):
        assert len(self.world.notify(users, title=title, channels=["email"], **fields)) == len(users)

    def states(self, users):
        names = ", ".join(f"'{name}'" for name in users)
        rows = self.sql(f"SELECT state, count(*) FROM deliveries WHERE user_id IN ({names}) GROUP BY state ORDER BY state").splitlines()
        return {state: int(count) for state, count in (row.split("|") for row in rows)}

    def until_sent(self, users):
        until(lambda: self.states(users) == {"sent": len(users)}, f"{len(users)} e-mails to be sent")

    def until_clean(self):
        """Nothing is left anywhere."""
        until(lambda: self.sql("SELECT count(*) FROM tasks") == "0", "no task to be left")
        until(lambda: all(self.messages(name) == 0 for name in QUEUES), "no message to be left")

    def messages(self, queue):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.sqs.get_queue_url(QueueName="carillon-" + queue)["QueueUrl"], AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def counted(self, what, queue="email"):
        return self.worker.metrics()[f'carillon_sqs_messages_total{{queue="{queue}",what="{what}"}}']

    def received(self, users, title):
        return {user: self.mailbox.subjects[user, title] for user in users}


@pytest.fixture(scope="module")
def bench():
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host = "{}:{}".format(*moto.get_host_and_port())
    sqs = boto3.client(
        "sqs", endpoint_url="http://" + host, region_name="eu-central-1", aws_access_key_id="AKIATEST", aws_secret_access_key="secret/key+")
    for name in QUEUES:
        sqs.create_queue(QueueName="carillon-" + name)
    proxy, mailbox = Proxy(host), Mailbox()
    settings = {
        "CARILLON_QUEUE": "sqs", "CARILLON_SQS_URL": f"{proxy.url}/123456789012/carillon-", "CARILLON_AWS_REGION": "eu-central-1",
        "CARILLON_AWS_ACCESS_KEY_ID": "AKIATEST", "CARILLON_AWS_SECRET_ACCESS_KEY": "secret/key+", "CARILLON_SQS_RESEND_SECONDS": "5",
        "CARILLON_SMTP_URL": f"smtp://127.0.0.1:{mailbox.controller.port}?starttls=none", "CARILLON_EMAIL_FROM": "no-reply@example.org",
        "CARILLON_DELIVERY_LEASE_SECONDS": str(LEASE), "CARILLON_DELIVERY_BACKOFF_SECONDS": "1", "CARILLON_SECRETS_KEY": "k" * 32,
        "CARILLON_WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    }  # fmt: skip
    try:
        with World(edges=0, workers=1, settings=settings) as world:
            yield Bench(world, proxy, mailbox, sqs)
    finally:
        mailbox.controller.stop()
        proxy.server.shutdown()
        proxy.server.server_close()
        moto.stop()


@pytest.fixture(autouse=True)
def calm(bench):
    """What one test does to the services ends with it."""
    yield
    bench.mailbox.is_shut = bench.proxy.is_down = False
    bench.proxy.refuse = bench.proxy.double = bench.proxy.lose = lambda entry: False


def test_emails_go_by_way_of_sqs_in_batches_each_once(bench):
    users = bench.users(120)
    bench.mailbox.refuse_once = set(users[:3])
    bench.email(users, "Plain")
    bench.until_sent(users)
    assert set(bench.received(users, "Plain").values()) == {1}
    bench.until_clean()
    sent = [len(body["Entries"]) for body in bench.proxy.of("SendMessageBatch")]
    # Three of them twice: what fails is handed over again when its time has come.
    assert sum(sent) >= 123 and max(sent) == 10 and len(sent) < 60
    assert all(json.loads(entry["MessageBody"]).keys() == {"task"} for body in bench.proxy.of("SendMessageBatch") for entry in body["Entries"])
    deleted = [len(body["Entries"]) for body in bench.proxy.of("DeleteMessageBatch")]
    assert sum(deleted) >= 123 and max(deleted) <= 10
    received = bench.proxy.of("ReceiveMessage")
    assert max(body["MaxNumberOfMessages"] for body in received) == 10 and {body["WaitTimeSeconds"] for body in received} <= {1, 20}
    until(lambda: bench.counted("deleted") >= 123, "the worker to count what it deleted")
    assert bench.counted("sent") >= 123 and bench.counted("received") >= 123
    assert bench.proxy.forged == []


def test_a_message_that_comes_twice_sends_nothing_twice(bench):
    bench.proxy.double = lambda entry: True
    users = bench.users(60)
    stale = bench.counted("stale") + bench.counted("postponed")
    bench.email(users, "Twice")
    bench.until_sent(users)
    bench.proxy.double = lambda entry: False
    bench.until_clean()
    assert set(bench.received(users, "Twice").values()) == {1}
    assert bench.counted("stale") + bench.counted("postponed") > stale


def test_entries_that_sqs_refuses_are_sent_again_and_only_those(bench):
    seen = collections.Counter()

    def refuse(entry):
        seen[entry["MessageBody"]] += 1
        return int(entry["Id"]) % 3 == 1 and seen[entry["MessageBody"]] == 1

    bench.proxy.refuse = refuse
    users = bench.users(40)
    refused = bench.counted("not_sent")
    bench.email(users, "Refused")
    bench.until_sent(users)
    bench.proxy.refuse = lambda entry: False
    bench.until_clean()
    assert set(bench.received(users, "Refused").values()) == {1}
    assert len(seen) == 40 and sorted(set(seen.values())) == [1, 2]
    assert bench.counted("not_sent") - refused == sum(1 for count in seen.values() if count == 2)


def test_a_message_stays_hidden_while_its_sending_takes_longer_than_the_lease(bench):
    users = bench.users(3)
    bench.mailbox.is_shut = True
    before = len(bench.proxy.of("ChangeMessageVisibilityBatch"))

    def kept():
        """How often a message was hidden for a lease. On a busy machine one comes again before that, and is hidden for what is left of its lease."""
        entries = [entry for body in bench.proxy.of("ChangeMessageVisibilityBatch")[before:] for entry in body["Entries"]]
        return sum(entry["VisibilityTimeout"] == LEASE for entry in entries)

    bench.email(users, "Slow")
    # Four times each: by then it has taken longer than a lease.
    until(lambda: kept() >= 4 * len(users), "the messages to be kept hidden")
    assert bench.states(users) == {"sending": 3}
    bench.mailbox.is_shut = False
    bench.until_sent(users)
    assert set(bench.received(users, "Slow").values()) == {1}
    assert all(bench.mailbox.held[user, "Slow"] == 1 for user in users)
    bench.until_clean()


def test_what_a_killed_worker_was_sending_is_sent_by_the_next(bench):
    users = bench.users(20)
    bench.mailbox.is_shut = True
    bench.email(users, "Killed")
    # A mail server that takes its time holds up none of them.
    until(lambda: all(bench.mailbox.held[user, "Killed"] == 1 for user in users), "all e-mails to be under way")
    bench.worker.kill()
    # What it was saying is said to nobody.
    bench.mailbox.is_shut = False
    bench.worker.start()
    bench.until_sent(users)
    assert set(bench.received(users, "Killed").values()) <= {1, 2}
    until(bench.worker.is_whole, "the worker to be ready")
    bench.until_clean()


def test_while_sqs_is_down_the_tasks_wait_in_postgres(bench):
    bench.proxy.is_down = True
    users = bench.users(30)
    bench.email(users, "Down")
    until(lambda: bench.worker.metrics()['carillon_sqs_errors_total{queue="email"}'] > 0, "calls to fail")
    assert bench.states(users) == {"queued": 30}
    bench.proxy.is_down = False
    bench.until_sent(users)
    assert set(bench.received(users, "Down").values()) == {1}
    bench.until_clean()


def test_a_message_that_sqs_loses_is_sent_again(bench):
    lost = set()

    def lose(entry):
        is_first = entry["MessageBody"] not in lost
        lost.add(entry["MessageBody"])
        return is_first

    bench.proxy.lose = lose
    users = bench.users(5)
    bench.email(users, "Lost")
    until(lambda: bench.sql("SELECT count(*) FROM tasks WHERE state = 4") == "5", "the tasks to be handed over")
    answer = requests.get(
        bench.world.apis[0].url + "/v1/admin/queues", timeout=PATIENCE,
        headers={"Authorization": "Bearer " + bench.world.carillon("token", "--user", "root", "--role", "admin")})  # fmt: skip
    assert [row["depth"] for row in answer.json()["data"] if (row["queue"], row["state"]) == ("email", "handed_over")] == [5]
    bench.until_sent(users)
    assert set(bench.received(users, "Lost").values()) == {1}
    bench.proxy.lose = lambda entry: False
    bench.until_clean()


def test_what_is_gathered_for_a_user_goes_in_one_email(bench):
    [user] = bench.users(1)
    bench.sql(f"""INSERT INTO preferences (user_id, customer_id, body, updated_at) VALUES ('{user}', '', '{{"digest":{{"email":"daily"}}}}', now())""")
    for number in range(3):
        bench.email([user], f"Gathered {number}")
    assert bench.sql("SELECT count(*) FROM tasks WHERE queue = 'digest' AND state = 1") == "3"
    bench.sql("UPDATE tasks SET run_at = now()")
    bench.until_sent([user] * 3)
    assert bench.mailbox.subjects[user, "Gathered 0 (+2)"] == 1
    assert bench.proxy.of("SendMessageBatch", "digest")
    bench.until_clean()


def test_webhooks_go_the_same_way(bench):
    bodies, traces, trace = [], [], "4bf92f3577b34da6a3ce929d0e0e4736"

    class Receiver(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            traces.append(self.headers["traceparent"].split("-"))
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    key = bench.world.carillon("apikey", "create", "--name", "hooks", "--scopes", "notify,webhooks")
    ports = [receiver.server_address[1], free_port()]
    for port in ports:
        answer = requests.post(
            bench.world.apis[0].url + "/v1/webhooks", headers={"X-API-Key": key}, timeout=PATIENCE, json={"url": f"http://127.0.0.1:{port}/", "events": ["*"]})
        assert answer.status_code == 201, answer.text
    for number in range(12):
        bench.world.notify(bench.world.user(), title=f"Event {number}", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    # The other one does not answer: that is no reason for this one to wait.
    until(lambda: {body["data"].get("title") for body in bodies} == {f"Event {number}" for number in range(12)}, "all events")
    assert len(bodies) == 12
    # Each call is a part of its own of the trace that its request belongs to.
    assert {parts[1] for parts in traces} == {trace} and len({parts[2] for parts in traces}) == 12
    assert bench.proxy.of("SendMessageBatch", "webhook")
    receiver.shutdown()
    receiver.server_close()


def test_a_stopped_worker_leaves_nothing_hidden_and_the_check_tells_what_it_reaches(bench):
    bench.sql("DELETE FROM webhooks; DELETE FROM tasks")
    assert bench.worker.stop() == 0
    users = bench.users(10)
    bench.email(users, "Stopped")
    bench.worker.start()
    bench.until_sent(users)
    assert set(bench.received(users, "Stopped").values()) == {1}
    with pytest.raises(AssertionError, match="CARILLON_SQS_URL: sms: AWS.SimpleQueueService.NonExistentQueue|CARILLON_SQS_URL: sms: QueueDoesNotExist"):
        bench.world.carillon("check")
    for name in ("sms", "telegram"):
        bench.sqs.create_queue(QueueName="carillon-" + name)
    assert "sqs, messages that wait: email 0, sms 0" in bench.world.carillon("check")
    assert bench.proxy.forged == []
