"""Workers that die in the middle of deliveries. The e-mails of this cluster are files, one a delivery, but where a test has a mail server of its own."""

import collections
import concurrent.futures
import email
import http.server
import threading
import time
from pathlib import Path

from aiosmtpd.controller import Controller
from carillon import KEY, STATE, call, eventually, local, new_user, notify
from servers import free_port

MAIL = Path(STATE, "mail")
CUSTOMER = new_user("customer")
USERS = 100
ROUNDS = 12


def files(prefix):
    return {path.name for path in MAIL.glob("*.json") if f'"to" : "{prefix}' in path.read_text()}


def rows(state=None):
    """How many deliveries of this test's customer are in that state."""
    found, after = 0, None
    while True:
        query = {"customer_id": CUSTOMER, "limit": 200} | ({"state": state} if state else {}) | ({"after": after} if after else {})
        page = call("GET", "/v1/admin/deliveries", KEY, params=query).json()
        found, after = found + len(page["data"]), page["page"]["next"]
        if not after:
            return found


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_behind():
    prefix = new_user("mail")
    users = [f"{prefix}-{number}" for number in range(USERS)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda user: call("PUT", f"/v1/contacts/{user}", KEY, json={"email": f"{user}@example.org"}), users):
            assert answer.status_code == 200, answer.text

        # Waiting for it to be half done would be too late: it is killed while they come.
        sending = [pool.submit(notify, users, title=f"Round {number}", channels=["in_app", "email"], customer_id=CUSTOMER) for number in range(ROUNDS)]
        for _ in range(3):
            before = len(list(MAIL.glob("*.json")))
            eventually(lambda before=before: len(list(MAIL.glob("*.json"))) > before + 100, "some e-mails")
            local("kill", "worker-1")
            local("start", "worker-1", "--set", "CARILLON_DELIVERY_LEASE_SECONDS=4")
        for request in sending:
            assert len(request.result()) == USERS
    total = USERS * ROUNDS
    assert rows() == total
    # What the dead ones had taken comes back when their leases end.
    eventually(lambda: rows("sent") == total, "all e-mails to be sent")
    assert len(files(prefix)) == total
    queues = call("GET", "/v1/admin/queues", KEY).json()["data"]
    assert [row["depth"] for row in queues if row["queue"] == "email" and row["state"] in ("due", "running", "dead")] == [0, 0, 0]
    local("stop", "worker-1")
    local("start", "worker-1", "--unset", "CARILLON_DELIVERY_LEASE_SECONDS")


class Halves:
    """Who accepts every second attempt of each message, a little late, and knows when."""

    def __init__(self):
        self.attempts, self.accepted, self.lock = collections.Counter(), collections.defaultdict(list), threading.Lock()

    def fails(self, message):
        with self.lock:
            self.attempts[message] += 1
            return self.attempts[message] % 2 == 1

    def accept(self, message):
        with self.lock:
            self.accepted[message].append(time.monotonic())

    def repeated(self, kills):
        """Messages accepted again although the worker that had the answer lived on to write it down."""
        with self.lock:
            return [message for message, times in self.accepted.items() for at in times[:-1] if not any(begun - 5 < at < ended + 0.1 for begun, ended in kills)]


class MailServer(Halves):
    """Fails in turn before the message, after it, and by saying nothing at all."""

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content)["message-id"]
        time.sleep(0.002)
        if not self.fails(message):
            self.accept(message)
            return "250 2.0.0 Taken"
        if hash(message) % 2:
            server.transport.close()
        return "451 4.3.0 Not now"


def receiver():
    halves = Halves()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            message = self.path + " " + self.headers["webhook-id"]
            time.sleep(0.05)
            fails = halves.fails(message)
            if fails and hash(message) % 2:
                self.close_connection = True
                return
            if not fails:
                halves.accept(message)
            self.send_response(503 if fails else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, halves


def test_mail_servers_and_receivers_that_fail_half_of_the_time_and_workers_that_are_killed_lose_and_repeat_nothing():
    customer, prefix, calls, users = new_user("customer"), new_user("half"), 60, 5
    mails = MailServer()
    smtp = Controller(mails, hostname="127.0.0.1", port=free_port())
    smtp.start()
    server, hooks = receiver()
    made = []
    settings = [f"CARILLON_SMTP_URL=smtp://127.0.0.1:{smtp.port}", "CARILLON_EMAIL_FROM=no-reply@example.org", "CARILLON_DELIVERY_ATTEMPTS=12",
                "CARILLON_DELIVERY_BACKOFF_SECONDS=1", "CARILLON_DELIVERY_LEASE_SECONDS=3", "CARILLON_DELIVERY_CONCURRENCY=16",
                "CARILLON_WEBHOOK_ATTEMPTS=12", "CARILLON_WEBHOOK_BACKOFF_SECONDS=1", "CARILLON_WEBHOOK_TIMEOUT_SECONDS=2"]
    changes = [part for setting in settings for part in ("--set", setting)]
    try:
        local("stop", "worker-1")
        for number in range(3):
            answer = call("POST", "/v1/webhooks", KEY, json={"url": f"http://127.0.0.1:{server.server_port}/{number}", "events": ["*"], "customer_id": customer})
            assert answer.status_code == 201, answer.text
            made.append(answer.json()["id"])
        for number in range(users):
            assert call("PUT", f"/v1/contacts/{prefix}-{number}", KEY, json={"email": f"{prefix}-{number}@example.org"}).status_code == 200
        for number in range(calls):
            notify([f"{prefix}-{user}" for user in range(users)], title=f"Call {number}", channels=["in_app", "email", "webhook"], customer_id=customer)
        kills = []
        local("start", "worker-1", *changes)
        for portion in (0.15, 0.4, 0.7):
            eventually(lambda portion=portion: len(mails.accepted) > portion * calls * users and len(hooks.accepted) > portion * calls * 3 * 0.5, "a part of it")
            begun = time.monotonic()
            local("kill", "worker-1")
            kills.append((begun, time.monotonic()))
            local("start", "worker-1")

        def states():
            rows, after = [], None
            while True:
                query = {"customer_id": customer, "limit": 200} | ({"after": after} if after else {})
                page = call("GET", "/v1/admin/deliveries", KEY, params=query).json()
                rows, after = rows + page["data"], page["page"]["next"]
                if not after:
                    return collections.Counter(row["state"] for row in rows if row["channel"] == "email")

        eventually(lambda: states() == {"sent": calls * users}, "all e-mails to be sent")
        eventually(lambda: len(hooks.accepted) == calls * 3, "all webhooks to be told")
        assert len(mails.accepted) == calls * users
        assert not mails.repeated(kills) and not hooks.repeated(kills)
        queues = lambda: [row["depth"] for row in call("GET", "/v1/admin/queues", KEY).json()["data"] if row["queue"] in ("email", "webhook") and row["state"] != "waiting"]
        eventually(lambda: queues() == [0] * 6, "nothing left in the queues")
        for webhook in made:
            assert call("GET", f"/v1/webhooks/{webhook}", KEY).json()["status"] == "ACTIVE"
    finally:
        for webhook in made:
            call("DELETE", f"/v1/webhooks/{webhook}", KEY)
        smtp.stop()
        server.shutdown()
        local("stop", "worker-1")
        local("start", "worker-1", *[part for setting in settings for part in ("--unset", setting.split("=")[0])])
