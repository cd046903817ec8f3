"""What readers of e-mails and Twilio call: one-click unsubscription, and what became of a text."""

import http.server
import json
import os
import subprocess
import threading
import urllib.parse
from pathlib import Path

import httpx
import pytest
from harness import PATIENCE, eventually, free_port, problem, tolerant
from twilio.request_validator import RequestValidator

MAIL = Path(os.environ["CARILLON_LOCAL_STATE"]) / "mail"


def contact(cluster, user, **fields):
    assert cluster.http.put(f"{cluster.url}/v1/contacts/{user.name}", json=fields, headers=cluster.application).status_code == 200


def mails(user):
    """What was sent to that user, in order. A file may go while they are looked through."""
    return [mail for mail in (json.loads(file.read_text()) for file in sorted(MAIL.glob("*.json"))) if mail["user_id"] == user.name]


def email(cluster, user, count, **fields):
    cluster.notify(user, channels=["in_app", "email"], **fields)
    return eventually(f"e-mail number {count}", lambda: len(mails(user)) >= count and mails(user))[-1]


@pytest.fixture
def reader(cluster, user):
    contact(cluster, user, email=f"{user.name}@example.org")
    return user


def effective(user, kind, **more):
    return user.get("/preferences/effective", params={"type": kind, **more})["channels"]["email"]


def test_one_click_ends_emails_about_a_type(cluster, reader):
    user = reader
    user.write("PUT", "/preferences", {"channels": {"email": True}, "types": {"chat": {"events": {"message_received": {"email": True, "sms": True}}}}})
    url = email(cluster, user, 1, type="chat", event="message_received", customer_id="<&customer>")["unsubscribe_url"]
    assert url.startswith(cluster.url + "/v1/unsubscribe/")
    # A program that follows links, and a reader who has not pressed anything.
    for method in ("GET", "HEAD", "GET"):
        page = cluster.http.request(method, url)
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<form method=\"post\">" in page.text and "chat" in page.text
    assert effective(user, "chat", event="message_received")["enabled"] is True
    # As RFC 8058 has it: without cookies or credentials.
    answer = cluster.http.post(url, content="List-Unsubscribe=One-Click", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 200 and "text/html" in answer.headers["content-type"]
    assert effective(user, "chat", event="message_received")["enabled"] is False and effective(user, "chat", event="message_received", customer_id="<&customer>")["enabled"] is False
    assert effective(user, "SYSTEM")["enabled"] is True
    assert user.get("/preferences")["types"]["chat"] == {"channels": {"email": False}, "events": {"message_received": {"sms": True}}}
    # Again is the same; and others are not concerned.
    assert cluster.http.post(url).status_code == 200
    assert cluster.fresh_user().get("/preferences") == {}


def test_what_the_user_said_for_the_mails_customer_is_turned_off_too(cluster, reader):
    user = reader
    user.write("PUT", "/preferences?customer_id=acme", {"types": {"chat": {"channels": {"email": True}}}})
    url = email(cluster, user, 1, type="chat", customer_id="acme")["unsubscribe_url"]
    assert cluster.http.post(url).status_code == 200
    assert effective(user, "chat", customer_id="acme")["enabled"] is False and effective(user, "chat")["enabled"] is False


def test_a_token_that_is_not_ours_is_nothing(cluster, reader):
    url = email(cluster, reader, 1, type="chat")["unsubscribe_url"]
    token = url.rsplit("/", 1)[1]
    statement, signature = token.split(".")
    for wrong in (token[:-2], statement, statement + ".", "." + signature, statement[:-1] + "A." + signature, "x", "%00", "a" * 3000, signature + "." + statement):
        for method in ("GET", "POST"):
            problem(cluster.http.request(method, f"{cluster.url}/v1/unsubscribe/{wrong}"), 404, "not_found")
    assert reader.get("/preferences") == {}
    entries = cluster.http.get(f"{cluster.url}/v1/admin/audit", headers=cluster.application, params={"limit": 200}).text
    assert signature not in entries


# --- Twilio --------------------------------------------------------------------------------------------------------------

TOKEN = "t0ken of the account"


class Twilio:
    """Takes texts, and keeps where it is to tell what became of each."""

    def __init__(self):
        twilio = self
        self.texts = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
                sid = f"SM{os.urandom(16).hex()}"
                twilio.texts.append((sid, form))
                answer = json.dumps({"sid": sid, "status": "queued"}).encode()
                self.send_response(201)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def texting(cluster, tmp_path_factory):
    """A node of the cluster that sends texts. It knows the API keys, and is asked like any other."""
    twilio = Twilio()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"], "CARILLON_DATABASE_URL": cluster.database_url, "CARILLON_REDIS_URL": os.environ["CARILLON_REDIS_URL"],
        "CARILLON_JWT_SECRET": "a secret that nothing is signed with here", "CARILLON_NODE_NAME": "texting", "CARILLON_SMS_PROVIDER": "twilio",
        "CARILLON_TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "CARILLON_TWILIO_AUTH_TOKEN": TOKEN, "CARILLON_TWILIO_FROM": "+15005550006",
        "CARILLON_TWILIO_URL": twilio.url, "CARILLON_PUBLIC_URL": "https://notify.example.org", "CARILLON_RATE_LIMIT_KEY": "off",
    }  # fmt: skip
    log = open(tmp_path_factory.mktemp("texting") / "log", "w+")  # noqa: SIM115
    process = subprocess.Popen(
        [os.environ["CARILLON_BIN"], "serve", "--roles", "api,worker", "--port", str(port)], env=environment, stdin=subprocess.DEVNULL, stderr=log)
    try:
        eventually("the node is ready", tolerant(lambda: httpx.get(f"{url}/health/ready", trust_env=False).json()["status"] == "ready"))
        yield url, twilio
    finally:
        process.terminate()
        process.wait(PATIENCE)
        twilio.close()
        log.close()


def state(cluster, user):
    """As operators see it: users are told no reasons of providers."""
    [delivery] = cluster.http.get(f"{cluster.url}/v1/admin/deliveries", headers=cluster.application, params={"user_id": user.name}).json()["data"]
    return delivery["state"], delivery["reason"]


@pytest.mark.parametrize(
    "words, end", [(["queued", "sent", "delivered", "sent"], ("delivered", None)), (["sent", "undelivered"], ("failed", "Twilio: undelivered, error 30003"))])
def test_twilio_tells_what_became_of_a_text(cluster, texting, user, words, end):
    node, twilio = texting
    contact(cluster, user, phone="+4915112345678")
    before = len(twilio.texts)
    cluster.notify(user, url=node, title="Hello", channels=["sms"])
    eventually("the text is sent", lambda: len(twilio.texts) > before)
    sid, form = twilio.texts[-1]
    assert form["To"] == "+4915112345678" and form["Body"] == "Hello"
    callback = form["StatusCallback"]
    for word in words:
        told = {"MessageSid": sid, "MessageStatus": word, "AccountSid": "AC" + "0" * 32, "To": "+49 151", "ErrorCode": "30003" if word == "undelivered" else ""}
        signature = RequestValidator(TOKEN).compute_signature(callback, told)
        target = node + callback.removeprefix("https://notify.example.org")
        # Nobody else can say so: not without a signature, nor with that of another text.
        problem(cluster.http.post(target, data=told), 403, "forbidden")
        problem(cluster.http.post(target, data={**told, "MessageStatus": "failed"}, headers={"X-Twilio-Signature": signature}), 403, "forbidden")
        problem(cluster.http.post(target + "&x=y", data=told, headers={"X-Twilio-Signature": signature}), 403, "forbidden")
        answer = cluster.http.post(target, data=told, headers={"X-Twilio-Signature": signature})
        assert answer.status_code == 204, answer.text
    assert state(cluster, user) == end


def test_a_node_without_twilio_takes_no_word_of_it(cluster):
    problem(cluster.http.post(f"{cluster.url}/v1/callbacks/twilio", data={"MessageSid": "SM1"}, headers={"X-Twilio-Signature": "AAAA"}), 403, "forbidden")
