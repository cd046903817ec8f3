"""Webhooks as an application manages them, and as their receivers see them."""

import base64
import http.server
import json
import threading
from datetime import datetime, timedelta, timezone

import pytest
import standardwebhooks
from harness import eventually, problem


class Receiver:
    """An HTTP server whose paths are endpoints. Each keeps what it gets, and answers what it is told to."""

    def __init__(self):
        receiver = self
        self.requests = {}
        self.answers = {}
        self.lock = threading.Lock()
        self.released = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver.lock:
                    receiver.requests.setdefault(self.path, []).append((headers, body))
                    answer = receiver.answers.get(self.path, 200)
                if answer == "silent":
                    receiver.released.wait(60)
                    self.close_connection = True
                    return
                if answer == "endless":
                    self.send_response(200)
                    self.end_headers()
                    try:
                        while not receiver.released.is_set():
                            self.wfile.write(b"x" * 65536)
                    except OSError:
                        pass
                    self.close_connection = True
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"no" if answer >= 300 else b"ok")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def got(self, path):
        with self.lock:
            return list(self.requests.get(path, []))

    def bodies(self, path):
        return [json.loads(body) for _, body in self.got(path)]

    def wait(self, path, count=1, what="calls"):
        return eventually(f"{count} {what} at {path}", lambda: len(self.got(path)) >= count and self.bodies(path))

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


class Hooks:
    """The routes, and webhooks that are deleted at the end."""

    def __init__(self, cluster, receiver):
        self.cluster = cluster
        self.receiver = receiver
        self.made = []

    def request(self, method, path="", headers=None, **options):
        return self.cluster.http.request(method, f"{self.cluster.url}/v1/webhooks{path}", headers=headers or self.cluster.application, **options)

    def post(self, body, headers=None):
        answer = self.request("POST", json=body, headers=headers)
        if answer.status_code == 201:
            self.made.append(answer.json()["id"])
        return answer

    def make(self, path, **fields):
        answer = self.post({"url": self.receiver.url + path, "events": ["*"], **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, webhook):
        answer = self.request("GET", "/" + webhook["id"])
        assert answer.status_code == 200, answer.text
        return answer.json()

    def attempts(self, webhook):
        return self.request("GET", f"/{webhook['id']}/attempts").json()["data"]


@pytest.fixture
def hooks(cluster, receiver):
    hooks = Hooks(cluster, receiver)
    yield hooks
    for webhook in hooks.made:
        hooks.request("DELETE", "/" + webhook)


@pytest.fixture
def customer(cluster):
    return cluster.unique("-customer")


def notify(cluster, customer, *users, **fields):
    body = {"type": "chat", "event": "message_received", "title": "Grüße", "customer_id": customer, "user_ids": [user.name for user in users], **fields}
    answer = cluster.publish(**body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_one_call_is_one_event_for_each_endpoint_that_asked_for_it(cluster, hooks, receiver, customer, user, other):
    mine, also, foreign = (cluster.unique() for _ in range(3))
    first = hooks.make("/" + mine, customer_id=customer)
    hooks.make("/" + also, customer_id=customer, events=["chat.message_received"])
    hooks.make("/" + foreign, customer_id=customer + "2")
    made = notify(cluster, customer, user, other, content="Text", data={"n": 1.50, "emoji": "🎉"}, link_url="/x")
    for path in (mine, also):
        [body] = receiver.wait("/" + path)
        assert list(body) == ["type", "timestamp", "data"] and body["type"] == "chat.message_received"
        data = body["data"]
        assert sorted(data["user_ids"]) == sorted([user.name, other.name])
        assert (data["title"], data["content"], data["data"], data["customer_id"], data["type"], data["event"]) == (
            "Grüße", "Text", {"n": 1.50, "emoji": "🎉"}, customer, "chat", "message_received")
    [(headers, body)] = receiver.got("/" + mine)
    standardwebhooks.Webhook(first["secret"]).verify(body, headers)
    assert headers["content-type"] == "application/json" and headers["x-webhook-signature"].startswith("sha256=")
    [attempt] = eventually("the attempt is in the log", lambda: hooks.attempts(first))
    assert attempt["status"] == 200 and attempt["answer"] == "ok" and attempt["message_id"] == headers["webhook-id"] and attempt["attempt"] == 1
    assert attempt["error"] is None and attempt["test"] is False and attempt["type"] == "chat.message_received"
    # Another call is another event; the customer's own comes last, so that what was for others would have come before.
    assert made["notifications"]
    notify(cluster, customer, user, title="Second")
    assert [body["data"]["title"] for body in receiver.wait("/" + mine, 2)] == ["Grüße", "Second"]
    assert not receiver.got("/" + foreign)


def test_a_call_that_is_repeated_or_planned_twice_is_one_event(cluster, hooks, receiver, customer, user):
    path = "/" + cluster.unique()
    hooks.make(path, customer_id=customer)
    # Somebody of whom something is known is written to by a second plan.
    user.write("PATCH", "/preferences", {"channels": {"sms": False}})
    key = {**cluster.application, "Idempotency-Key": cluster.unique()}
    body = {"title": "Once", "type": "SYSTEM", "customer_id": customer, "user_ids": [user.name]}
    for _ in range(3):
        assert cluster.publish(headers=key, **body).status_code == 201
    notify(cluster, customer, user, title="control")
    assert sorted(body["data"]["title"] for body in receiver.wait(path, 2)) == ["Once", "control"]


def test_a_scheduled_one_is_told_when_it_is_due(cluster, hooks, receiver, customer, user):
    path = "/" + cluster.unique()
    hooks.make(path, customer_id=customer)
    due = datetime.now(timezone.utc) + timedelta(seconds=6)
    notify(cluster, customer, user, title="later", deliver_at=due.isoformat())
    notify(cluster, customer, user, title="now")
    first, second = receiver.wait(path, 2)
    assert (first["data"]["title"], second["data"]["title"]) == ("now", "later")
    assert datetime.fromisoformat(second["timestamp"]) >= due - timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "events, matches",
    [(["*"], True), (["chat"], True), (["message_received"], True), (["chat.message_received"], True), (["SYSTEM", "chat"], True), (["chat.other"], False),
     (["chats"], False), (["CHAT"], False), (["SYSTEM"], False)])
def test_entries_match_a_type_an_event_both_or_all(cluster, hooks, receiver, customer, user, events, matches):
    path, control = "/" + cluster.unique(), "/" + cluster.unique()
    hooks.make(path, customer_id=customer, events=events)
    hooks.make(control, customer_id=customer)
    notify(cluster, customer, user)
    receiver.wait(control)
    if matches:
        receiver.wait(path)
    else:
        # Had it matched, it would have been queued in the same transaction.
        notify(cluster, customer, user)
        receiver.wait(control, 2)
        assert not receiver.got(path)


def test_preferences_of_users_do_not_apply(cluster, hooks, receiver, customer, user):
    path = "/" + cluster.unique()
    hooks.make(path, customer_id=customer)
    user.write("PUT", "/preferences", {"channels": {"in_app": False, "email": False, "sms": False, "telegram": False}})
    answer = notify(cluster, customer, user)
    assert not answer["notifications"] and answer["skipped"]
    [body] = receiver.wait(path)
    assert body["data"]["user_ids"] == [user.name] and body["data"]["title"] == "Grüße"


def test_an_event_without_recipients(cluster, hooks, receiver, customer):
    path = "/" + cluster.unique()
    hooks.make(path, customer_id=customer, events=["PAYMENT_FAILED"])
    key = {**cluster.application, "Idempotency-Key": cluster.unique()}
    answers = [
        cluster.http.post(f"{cluster.url}/v1/events", headers=key, json={"type": "PAYMENT_FAILED", "customer_id": customer, "data": {"amount": 12.50}}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202] and answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    [body] = receiver.wait(path)
    assert (body["type"], body["data"]) == ("PAYMENT_FAILED", {"amount": 12.50})
    for body, code in (({"type": "NO_SUCH"}, "invalid_group"), ({"type": "chat", "event": "no"}, "invalid_event"), ({}, "invalid_body"), ({"type": "chat", "data": []}, "invalid_body"),
                       ({"type": "chat", "more": 1}, "invalid_body"), ({"type": "chat", "data": {"x": "x" * 9000}}, "invalid_body")):
        problem(cluster.http.post(f"{cluster.url}/v1/events", headers=cluster.application, json=body), 422, code)


def test_the_event_of_a_job_names_its_users_once(cluster, hooks, receiver, customer):
    path = "/" + cluster.unique()
    hooks.make(path, customer_id=customer)
    users = [f"{customer}-{number}" for number in range(250)]
    answer = cluster.http.post(
        f"{cluster.url}/v1/notifications/trigger", headers=cluster.application, json={"title": "Many", "type": "SYSTEM", "customer_id": customer, "user_ids": users})
    assert answer.status_code == 202
    job = answer.json()["job_id"]
    eventually("the job is done", lambda: cluster.http.get(f"{cluster.url}/v1/jobs/{job}", headers=cluster.application).json()["state"] == "done")
    [body] = receiver.wait(path)
    assert body["type"] == "SYSTEM" and sorted(body["data"]["user_ids"]) == sorted(users) and body["data"]["job_id"] == job and body["data"]["user_count"] == 250


def test_an_idempotency_key_is_answered_alike(cluster, hooks, receiver):
    path = "/" + cluster.unique()
    webhook = hooks.make(path)
    for action in ("test", "enable", "replay"):
        key = {**cluster.application, "Idempotency-Key": cluster.unique()}
        body = {"since": "2020-01-01T00:00:00Z"} if action == "replay" else {}
        first = hooks.request("POST", f"/{webhook['id']}/{action}", json=body, headers=key)
        assert first.status_code in (200, 202) and "idempotent-replayed" not in first.headers
        again = hooks.request("POST", f"/{webhook['id']}/{action}", json=body, headers=key)
        assert again.status_code == first.status_code and again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
        problem(hooks.request("POST", f"/{webhook['id']}/{action}", json={**body, "until": "2020-01-02T00:00:00Z"}, headers=key), 422, "invalid_body")
    assert len(receiver.got(path)) == 1


def test_a_failing_endpoint_is_tried_three_times_then_waits_until_it_is_enabled(cluster, hooks, receiver, customer, user):
    path, fine = "/" + cluster.unique(), "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer)
    hooks.make(fine, customer_id=customer)
    receiver.answers[path] = 500
    notify(cluster, customer, user, title="first")
    failed = eventually("it has failed", lambda: (lambda seen: seen["status"] == "FAILED" and seen)(hooks.get(webhook)))
    assert failed["failure_count"] == 3 and "500" in failed["last_error"]
    attempts = hooks.attempts(webhook)
    assert [(attempt["attempt"], attempt["status"], attempt["answer"]) for attempt in attempts] == [(3, 500, "no"), (2, 500, "no"), (1, 500, "no")]
    # All attempts of a delivery are one message for the receiver, each with a signature of its own time.
    ids = {headers["webhook-id"] for headers, _ in receiver.got(path)}
    assert len(ids) == 1 and len(receiver.got(path)) == 3
    for headers, body in receiver.got(path):
        standardwebhooks.Webhook(webhook["secret"]).verify(body, headers)
    # What comes now waits, for this one alone.
    notify(cluster, customer, user, title="second")
    notify(cluster, customer, user, title="third")
    assert sorted(body["data"]["title"] for body in receiver.wait(fine, 3)) == ["first", "second", "third"]
    assert len(receiver.got(path)) == 3
    receiver.answers[path] = 200
    enabled = hooks.request("POST", f"/{webhook['id']}/enable")
    assert enabled.status_code == 200 and enabled.json()["status"] == "ACTIVE" and enabled.json()["failure_count"] == 0
    assert sorted(body["data"]["title"] for body in receiver.wait(path, 5)[3:]) == ["second", "third"]
    # And what failed for good, when that is asked for.
    answer = hooks.request("POST", f"/{webhook['id']}/replay", json={"only": "failed"})
    assert answer.status_code == 202 and answer.json() == {"replayed": 1}
    assert receiver.wait(path, 6)[5]["data"]["title"] == "first"
    eventually("all three are delivered", lambda: [attempt["error"] for attempt in hooks.attempts(webhook)].count(None) == 3)
    assert hooks.request("POST", f"/{webhook['id']}/replay", json={"only": "failed"}).json() == {"replayed": 0}
    assert hooks.request("POST", f"/{webhook['id']}/replay", json={"only": "all"}).json() == {"replayed": 3}
    receiver.wait(path, 9)


def test_a_success_resets_the_failures(cluster, hooks, receiver, customer, user):
    path = "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer)
    receiver.answers[path] = 503
    notify(cluster, customer, user)
    receiver.wait(path)
    eventually("a failure is counted", lambda: hooks.get(webhook)["failure_count"] >= 1)
    receiver.answers[path] = 200
    eventually("it is none any more", lambda: hooks.get(webhook)["failure_count"] == 0)
    seen = hooks.get(webhook)
    assert (seen["status"], seen["last_error"]) == ("ACTIVE", None)


def test_410_disables(cluster, hooks, receiver, customer, user):
    path, fine = "/" + cluster.unique(), "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer)
    hooks.make(fine, customer_id=customer)
    receiver.answers[path] = 410
    notify(cluster, customer, user)
    eventually("it is disabled", lambda: hooks.get(webhook)["status"] == "DISABLED")
    receiver.answers[path] = 200
    notify(cluster, customer, user)
    receiver.wait(fine, 2)
    assert len(receiver.got(path)) == 1
    hooks.request("POST", f"/{webhook['id']}/enable")
    notify(cluster, customer, user, title="after")
    assert receiver.wait(path, 2)[1]["data"]["title"] == "after"


def test_dead_silent_and_endless_endpoints_do_not_delay_another(cluster, hooks, receiver, customer, user):
    silent, endless, fine = ("/" + cluster.unique() for _ in range(3))
    receiver.answers.update({silent: "silent", endless: "endless"})
    hooks.make(silent, customer_id=customer)
    hooks.make(endless, customer_id=customer)
    hooks.post({"url": "http://127.0.0.1:9/", "events": ["*"], "customer_id": customer})
    hooks.make(fine, customer_id=customer)
    for number in range(20):
        notify(cluster, customer, user, title=str(number))
    # The silent one alone would take twenty times fifteen seconds.
    bodies = receiver.wait(fine, 20)
    assert sorted(int(body["data"]["title"]) for body in bodies) == list(range(20))
    receiver.wait(endless, 20)
    assert len(receiver.got(silent)) <= 4 * 2


def test_a_test_is_sent_at_once_and_never_counts(cluster, hooks, receiver, customer):
    path = "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer, events=["chat"])
    answer = hooks.request("POST", f"/{webhook['id']}/test")
    assert answer.status_code == 200 and answer.json()["accepted"] is True and answer.json()["status"] == 200
    [(headers, body)] = receiver.got(path)
    assert standardwebhooks.Webhook(webhook["secret"]).verify(body, headers)["type"] == "webhook.test"
    receiver.answers[path] = 500
    for _ in range(4):
        answer = hooks.request("POST", f"/{webhook['id']}/test").json()
        assert (answer["accepted"], answer["status"]) == (False, 500) and "500" in answer["error"]
    seen = hooks.get(webhook)
    assert (seen["status"], seen["failure_count"], seen["last_error"]) == ("ACTIVE", 0, None)
    assert [attempt["test"] for attempt in hooks.attempts(webhook)] == [True] * 5


def test_no_more_than_two_tests_of_one_webhook_are_under_way_at_a_node(cluster, hooks, receiver, customer):
    path = "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer)
    receiver.answers[path] = "silent"
    url = f"{cluster.apis[0]}/v1/webhooks/{webhook['id']}/test"
    for _ in range(2):
        threading.Thread(target=lambda: cluster.http.post(url, headers=cluster.application), daemon=True).start()
    receiver.wait(path, 2)
    answer = cluster.http.post(url, headers=cluster.application)
    problem(answer, 429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_rotation_signs_with_both_secrets(cluster, hooks, receiver, customer):
    path = "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer)
    answer = hooks.request("POST", f"/{webhook['id']}/rotate")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    secret = answer.json()["secret"]
    assert secret != webhook["secret"] and secret.startswith("whsec_") and len(base64.b64decode(secret[6:])) == 32
    hooks.request("POST", f"/{webhook['id']}/test")
    [(headers, body)] = receiver.got(path)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for good in (secret, webhook["secret"]):
        standardwebhooks.Webhook(good).verify(body, headers)


def test_a_webhook_is_made_read_changed_and_deleted(cluster, hooks, receiver, customer):
    url = receiver.url + "/" + cluster.unique()
    key = {**cluster.application, "Idempotency-Key": cluster.unique()}
    body = {"url": url, "events": ["chat", "chat", "SYSTEM"], "secret": "a secret of ours", "customer_id": customer, "description": "Ours\u0007 ü"}
    answer = hooks.post(body, headers=key)
    webhook = answer.json()
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    assert {name: value for name, value in webhook.items() if name not in ("id", "created_at")} == {
        "url": url, "events": ["chat", "SYSTEM"], "customer_id": customer, "description": "Ours ü", "status": "ACTIVE", "failure_count": 0, "last_error": None,
        "secret": "a secret of ours"}
    again = hooks.request("POST", json=body, headers=key)
    assert again.status_code == 201 and again.json() == webhook and again.headers["idempotent-replayed"] == "true"
    problem(hooks.request("POST", json={**body, "description": "another"}, headers=key), 422, "invalid_body")
    shown = {name: value for name, value in webhook.items() if name != "secret"}
    assert hooks.get(webhook) == shown
    listed = hooks.request("GET", params={"customer_id": customer}).json()
    assert listed == {"data": [shown], "page": {"next": None, "limit": 50}}
    changed = hooks.request("PATCH", "/" + webhook["id"], json={"events": ["*"], "description": None, "status": "DISABLED"})
    assert changed.status_code == 200 and changed.json() == {**shown, "events": ["*"], "description": None, "status": "DISABLED"}
    assert [item["id"] for item in hooks.request("GET", params={"status": "DISABLED", "customer_id": customer}).json()["data"]] == [webhook["id"]]
    assert hooks.request("DELETE", "/" + webhook["id"]).status_code == 204
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate"), ("POST", "/enable"), ("POST", "/replay"), ("GET", "/attempts")):
        problem(hooks.request(method, f"/{webhook['id']}{path}", **({"json": {}} if method == "PATCH" else {})), 404, "not_found")
        problem(hooks.request(method, f"/no-uuid{path}", **({"json": {}} if method == "PATCH" else {})), 400, "invalid_id")


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/", "https://192.168.1.1/x", "http://169.254.169.254/latest/meta-data", "http://100.64.0.1", "http://[fd00::1]/", "http://[fe80::1]/",
     "http://[64:ff9b::a00:1]/", "http://[2002:a00:1::]/", "http://[::ffff:10.0.0.1]/", "http://0.0.0.0/", "http://224.0.0.1/", "http://0xa000001/", "http://167772161/",
     "ftp://example.com/", "javascript:alert(1)", "http://user:password@example.com/", "/relative", "", "http://", "http://example.com/" + "x" * 2000, "http://exa mple.com/", None, 7])
def test_a_url_that_leads_nowhere_or_inside_is_refused(hooks, customer, url):
    answer = hooks.post({"url": url, "events": ["*"], "customer_id": customer})
    assert problem(answer, 422, "invalid_body")["errors"][0]["pointer"] == "/url"


@pytest.mark.parametrize(
    "fields, pointer",
    [({"events": []}, "/events"), ({"events": "chat"}, "/events"), ({"events": ["chat", 7]}, "/events/1"), ({"events": ["a b"]}, "/events/0"), ({"events": [""]}, "/events/0"),
     ({"events": ["x"] * 101}, "/events"), ({"secret": "short"}, "/secret"), ({"secret": "x" * 513}, "/secret"), ({"secret": 7}, "/secret"), ({"customer_id": ""}, "/customer_id"),
     ({"customer_id": "x" * 129}, "/customer_id"), ({"description": "x" * 501}, "/description"), ({"more": 1}, "/more")])
def test_a_field_that_is_wrong_is_named(hooks, receiver, customer, fields, pointer):
    answer = hooks.post({"url": receiver.url, "events": ["*"], "customer_id": customer, **fields})
    assert problem(answer, 422, "invalid_body")["errors"][0]["pointer"] == pointer


def test_a_customer_has_fifty_at_most(hooks, receiver, customer):
    for _ in range(50):
        hooks.make("/", customer_id=customer)
    problem(hooks.post({"url": receiver.url, "events": ["*"], "customer_id": customer}), 409, "conflict")
    page = hooks.request("GET", params={"customer_id": customer, "limit": 30}).json()
    rest = hooks.request("GET", params={"customer_id": customer, "limit": 30, "after": page["page"]["next"]}).json()
    assert (len(page["data"]), len(rest["data"]), rest["page"]["next"]) == (30, 20, None)


def test_an_administrator_of_some_customers_sees_theirs_alone(cluster, hooks, customer, user):
    mine, others = hooks.make("/", customer_id=customer), hooks.make("/", customer_id=customer + "2")
    general = hooks.make("/")
    narrow = {"Authorization": "Bearer " + cluster.token(user.name, "--role", "admin", "--customer", customer)}
    wide = {"Authorization": "Bearer " + cluster.token(user.name, "--role", "admin")}
    assert [webhook["id"] for webhook in hooks.request("GET", headers=narrow).json()["data"]] == [mine["id"]]
    assert hooks.request("GET", "/" + mine["id"], headers=narrow).status_code == 200
    for webhook in (others, general):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate"), ("POST", "/enable"), ("POST", "/replay"), ("GET", "/attempts")):
            problem(hooks.request(method, f"/{webhook['id']}{path}", headers=narrow), 404, "not_found")
        assert hooks.request("GET", "/" + webhook["id"], headers=wide).status_code == 200
    problem(hooks.request("GET", headers=narrow, params={"customer_id": customer + "2"}), 403, "forbidden")
    for body in ({}, {"customer_id": customer + "2"}):
        problem(hooks.post({"url": hooks.receiver.url, "events": ["*"], **body}, headers=narrow), 403, "forbidden")
    assert hooks.post({"url": hooks.receiver.url, "events": ["*"], "customer_id": customer}, headers=narrow).status_code == 201
    problem(hooks.request("GET", headers=user.bearer), 403, "forbidden")


def test_what_is_accepted_without_a_worker_is_called_later_and_administrators_hear_of_a_failure(cluster, hooks, receiver, customer, user, other):
    path, fine = "/" + cluster.unique(), "/" + cluster.unique()
    webhook = hooks.make(path, customer_id=customer)
    hooks.make(fine, customer_id=customer)
    receiver.answers[path] = 500
    cluster.local("kill", "worker-1")
    try:
        notify(cluster, customer, user)
    finally:
        cluster.local("start", "worker-1", "--set", f"CARILLON_WEBHOOK_ADMINS={other.name}", "--set", "CARILLON_WEBHOOK_ATTEMPTS=1")
    try:
        [body] = receiver.wait(fine)
        assert body["data"]["user_ids"] == [user.name]
        [told] = eventually("the administrator is told", lambda: other.list()["data"])
        assert (told["type"], told["level"], told["title"], told["rec_id"]) == ("SYSTEM", "ERROR", "A webhook has failed", webhook["id"])
        # Not by its path, which may hold a secret: webhooks hear of this notification, too.
        assert told["content"].startswith("127.0.0.1: ") and "500" in told["content"] and path not in told["content"]
        assert hooks.get(webhook)["status"] == "FAILED" and len(receiver.got(path)) == 1
    finally:
        cluster.local("stop", "worker-1")
        cluster.local("start", "worker-1", "--unset", "CARILLON_WEBHOOK_ADMINS", "--unset", "CARILLON_WEBHOOK_ATTEMPTS")
