"""E-mail, SMS, Telegram and webhooks against other people's servers, signers and parsers, by way of `carillon send`."""

import base64
import contextlib
import datetime
import email
import email.policy
import hashlib
import hmac
import http.server
import ipaddress
import json
import os
import ssl
import subprocess
import threading
import urllib.parse

import pytest
import standardwebhooks
import svix.webhooks
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import free_port
from moto.server import ThreadedMotoServer
from moto.sns.models import sns_backends
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

BINARY = os.environ["CARILLON_BIN"]


def carillon(settings, *arguments):
    """Runs `carillon send`, and answers what it printed, line by line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARILLON_")}
    done = subprocess.run([BINARY, "send", *arguments], env={**environment, **settings}, capture_output=True, text=True, timeout=90)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers, done.stderr
    assert (done.returncode == 0) == all(answer["result"] in ("sent", "accepted") for answer in answers), done.stderr
    return answers


# --- E-mail --------------------------------------------------------------------------------------------------------------


class Mailbox:
    """What a mail server does with what it gets, and what it has got."""

    def __init__(self):
        self.messages = []
        self.sessions = []
        self.refuse = {}

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if b"Subject: refuse" in envelope.content:
            return "554 5.6.0 That smells"
        self.messages.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        self.sessions.append((session.peer, session.ssl is not None, session.authenticated))
        return "250 2.0.0 Taken"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"us@er" and data.password == b"p:w/d"
    return AuthResult(success=good, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return str(folder / "cert.pem"), context


@contextlib.contextmanager
def mail_server(**options):
    """An SMTP server on a free port. `tls`: from the start."""
    mailbox = Mailbox()
    tls = options.pop("tls", None)
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), ssl_context=tls, **options)
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()


def mail(port, *arguments, to=("ann@example.org",), query="", user="", settings=None, scheme="smtp"):
    addresses = [part for address in to for part in ("--to", address)]
    return carillon(
        {"CARILLON_SMTP_URL": f"{scheme}://{user}127.0.0.1:{port}{query}", "CARILLON_EMAIL_FROM": "Carillon Tests <no-reply@example.org>", **(settings or {})},
        "message", "--channel", "email", *addresses, *arguments)


def parsed(mailbox, index=0):
    return email.message_from_bytes(mailbox.messages[index][2], policy=email.policy.SMTP)


def test_an_email_has_text_and_html_and_a_one_click_unsubscription():
    with mail_server() as (mailbox, port):
        text = "Grüße an alle.\n.\nA line that begins with a dot\n" + "long " * 60 + "\n=3D stays"
        html = "<p>Grüße &amp; <b>mehr</b> 🎉</p>"
        [answer] = mail(
            port, "--subject", "Buchung № 7 — bestätigt 🎉 " + "sehr lang " * 12, "--text", text, "--html", html, "--id", "0193-abc",
            "--unsubscribe", "https://n.example/v1/unsubscribe/abc.def")
        assert answer == {"to": "ann@example.org", "result": "sent", "said": "<0193-abc@example.org>"}
        sender, recipients, _ = mailbox.messages[0]
        assert (sender, recipients) == ("no-reply@example.org", ["ann@example.org"])
        message = parsed(mailbox)
        assert not message.defects
        assert message["subject"] == ("Buchung № 7 — bestätigt 🎉 " + "sehr lang " * 12)
        assert str(message["from"]) == "Carillon Tests <no-reply@example.org>" and message["to"] == "ann@example.org"
        assert message["message-id"] == "<0193-abc@example.org>"
        assert abs(message["date"].datetime - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=2)
        assert message["list-unsubscribe"] == "<https://n.example/v1/unsubscribe/abc.def>"
        assert message["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
        assert message.get_content_type() == "multipart/alternative"
        plain, rich = message.iter_parts()
        assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
        assert plain.get_content().replace("\r\n", "\n") == text and rich.get_content().strip() == html
        assert all(len(line) <= 78 for line in mailbox.messages[0][2].split(b"\r\n"))


def test_nothing_in_a_message_begins_another_header():
    with mail_server() as (mailbox, port):
        mail(port, "--subject", "Hello\r\nBcc: eve@example.org\r\n\r\nbody", "--text", "x\r\n.\r\nMAIL FROM:<a@b.c>\r\n")
        message = parsed(mailbox)
        assert message["bcc"] is None and message["subject"] == "HelloBcc: eve@example.orgbody"
        assert len(mailbox.messages) == 1 and message.get_content_type() == "text/plain"
        for address in ("eve@example.org\r\nBcc: x@example.org", "a b@example.org", "<a@example.org>", "a@example.org>,<b@example.org", ""):
            [answer] = mail(port, "--text", "x", to=[address])
            assert answer["result"] == "refused"
        assert len(mailbox.messages) == 1


def test_several_emails_share_a_connection():
    with mail_server() as (mailbox, port):
        answers = mail(port, "--text", "x", to=[f"user{number}@example.org" for number in range(4)])
        assert [answer["result"] for answer in answers] == ["sent"] * 4
        assert len({peer for peer, _, _ in mailbox.sessions}) == 1 and len(mailbox.sessions) == 4


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_email_over_tls_with_a_password(certificate, how):
    path, context = certificate
    options = {"authenticator": authenticate, "auth_require_tls": True}
    options.update({"tls_context": context, "require_starttls": True} if how == "starttls" else {"tls": context})
    if how == "implicit":
        options["auth_require_tls"] = False
    scheme = "smtps" if how == "implicit" else "smtp"
    with mail_server(**options) as (mailbox, port):
        [answer] = mail(port, "--text", "x", user="us%40er:p%3Aw%2Fd@", scheme=scheme, settings={"CARILLON_CA_FILE": path})
        assert answer["result"] == "sent", answer
        [(_, is_encrypted, is_authenticated)] = mailbox.sessions
        assert is_authenticated and (is_encrypted or how == "implicit")
        # A wrong password is ours to mend, and an unknown certificate nobody's to accept: neither ends the message.
        [answer] = mail(port, "--text", "x", user="us%40er:wrong@", scheme=scheme, settings={"CARILLON_CA_FILE": path})
        assert answer["result"] == "later", answer
        [answer] = mail(port, "--text", "x", user="us%40er:p%3Aw%2Fd@", scheme=scheme)
        assert answer["result"] == "later", answer
        assert len(mailbox.messages) == 1


def test_a_password_does_not_go_over_an_open_connection():
    with mail_server(authenticator=authenticate, auth_require_tls=False) as (mailbox, port):
        [answer] = mail(port, "--text", "x", user="us%40er:p%3Aw%2Fd@")
        assert answer["result"] == "later" and not mailbox.messages
        [answer] = mail(port, "--text", "x", user="us%40er:p%3Aw%2Fd@", query="?starttls=none")
        assert answer["result"] == "sent"


def test_what_a_mail_server_refuses_for_good_is_refused_and_the_rest_tried_again():
    with mail_server() as (mailbox, port):
        mailbox.refuse = {"gone@example.org": "550 5.1.1 No such user here", "full@example.org": "452 4.2.2 Mailbox full", "far@example.org": "550 5.7.1 Relaying denied"}
        gone, full, far, fine = mail(port, "--text", "x", to=["gone@example.org", "full@example.org", "far@example.org", "ann@example.org"])
        assert (gone["result"], full["result"], far["result"], fine["result"]) == ("refused", "later", "later", "sent")
        assert "No such user" in gone["said"] and "Mailbox full" in full["said"]
        [answer] = mail(port, "--subject", "refuse", "--text", "x")
        assert answer["result"] == "refused" and "smells" in answer["said"]
    [answer] = mail(port, "--text", "x")
    assert answer["result"] == "later"


# --- Servers of providers and of webhooks --------------------------------------------------------------------------------


class Endpoint:
    """An HTTP server that keeps what it gets, and answers what it is told to."""

    def __init__(self, tls=None):
        endpoint = self
        self.requests = []
        self.answers = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                endpoint.requests.append((self.path, dict(self.headers.items()), body))
                status, headers, answer = endpoint.answers.pop(0) if endpoint.answers else (200, {}, b"{}")
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def sms(settings, *to, text="Grüße, 7 & 8"):
    return carillon(settings, "message", "--channel", "sms", "--text", text, *[part for number in to for part in ("--to", number)])


def sns(url, **more):
    return {
        "CARILLON_SMS_PROVIDER": "sns", "CARILLON_AWS_REGION": "eu-central-1", "CARILLON_AWS_ACCESS_KEY_ID": "AKIATEST",
        "CARILLON_AWS_SECRET_ACCESS_KEY": "secret/key+", "CARILLON_SNS_URL": url, **more}


def test_sms_by_amazon_sns_reaches_a_server_that_speaks_as_it_does():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        [answer] = sms(sns(url, CARILLON_SNS_SENDER_ID="Carillon"), "+4915112345678")
        assert answer["result"] == "sent" and len(answer["said"]) == 36
        assert sns_backends["123456789012"]["eu-central-1"].sms_messages == {answer["said"]: ("+4915112345678", "Grüße, 7 & 8")}
        # It checks numbers, as Amazon does.
        [answer] = sms(sns(url), "NAA+15551234567")
        assert answer["result"] == "refused" and "InvalidParameter" in answer["said"]
    finally:
        server.stop()


@pytest.mark.parametrize("token", [None, "a-session/token=="])
def test_requests_to_amazon_are_signed_as_its_own_library_signs_them(token):
    with Endpoint() as endpoint:
        endpoint.answers = [(200, {}, b"<PublishResponse><PublishResult><MessageId>m-1</MessageId></PublishResult></PublishResponse>")]
        [answer] = sms(sns(endpoint.url, **({"CARILLON_AWS_SESSION_TOKEN": token} if token else {})), "+4915112345678")
        assert answer == {"to": "+4915112345678", "result": "sent", "said": "m-1"}
        [(path, headers, body)] = endpoint.requests
        assert path == "/" and urllib.parse.parse_qs(body.decode())["Message"] == ["Grüße, 7 & 8"]
        lower = {name.lower(): value for name, value in headers.items()}
        request = AWSRequest("POST", endpoint.url + "/", data=body, headers={"Content-Type": lower["content-type"]})
        signer = SigV4Auth(Credentials("AKIATEST", "secret/key+", token), "sns", "eu-central-1")
        request.context["timestamp"] = lower["x-amz-date"]
        request.headers["X-Amz-Date"] = lower["x-amz-date"]
        if token:
            assert lower["x-amz-security-token"] == token
            request.headers["X-Amz-Security-Token"] = token
        signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        assert lower["authorization"].endswith(f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}, Signature={signature}")
        assert lower["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATEST/" + lower["x-amz-date"][:8] + "/eu-central-1/sns/aws4_request,")


@pytest.mark.parametrize(
    "status, body, result",
    [(400, b"<Error><Code>InvalidParameter</Code><Message>no</Message></Error>", "refused"), (400, b"<Error><Code>Throttling</Code></Error>", "later"),
     (403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", "later"), (500, b"", "later"), (503, b"<html>", "later")])
def test_what_amazon_answers_is_judged(status, body, result):
    with Endpoint() as endpoint:
        endpoint.answers = [(status, {}, body)]
        [answer] = sms(sns(endpoint.url), "+4915112345678")
        assert answer["result"] == result


def twilio(url, **more):
    return {
        "CARILLON_SMS_PROVIDER": "twilio", "CARILLON_TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "CARILLON_TWILIO_AUTH_TOKEN": "t0ken",
        "CARILLON_TWILIO_FROM": "+15005550006", "CARILLON_TWILIO_URL": url, **more}


def test_sms_by_twilio_is_asked_for_as_its_own_library_asks():
    with Endpoint() as endpoint:
        class Redirected(TwilioHttpClient):
            def request(self, method, url, *arguments, **options):
                return super().request(method, url.replace("https://api.twilio.com", endpoint.url), *arguments, **options)

        created = (201, {"Content-Type": "application/json"}, json.dumps({"sid": "SM1", "status": "queued"}).encode())
        endpoint.answers = [created, created]
        [answer] = sms(twilio(endpoint.url, CARILLON_PUBLIC_URL="https://n.example/"), "+4915112345678")
        assert answer == {"to": "+4915112345678", "result": "sent", "said": "SM1"}
        ours = endpoint.requests[0]
        callback = urllib.parse.parse_qs(ours[2].decode())["StatusCallback"][0]
        assert callback.startswith("https://n.example/v1/callbacks/twilio?delivery=")
        Client("AC" + "0" * 32, "t0ken", http_client=Redirected()).messages.create(
            to="+4915112345678", from_="+15005550006", body="Grüße, 7 & 8", status_callback=callback)
        theirs = endpoint.requests[1]
        assert ours[0] == theirs[0] and urllib.parse.parse_qs(ours[2].decode()) == urllib.parse.parse_qs(theirs[2].decode())
        assert ours[1]["Authorization"] == theirs[1]["Authorization"] and ours[1]["Content-Type"] == theirs[1]["Content-Type"]


@pytest.mark.parametrize(
    "status, code, headers, result, after",
    [(400, 21211, {}, "refused", None), (400, 21610, {}, "refused", None), (400, 21606, {}, "later", None), (400, 21659, {}, "later", None), (401, 20003, {}, "later", None),
     (429, 20429, {"Retry-After": "9"}, "later", 9), (500, 20500, {}, "later", None)])
def test_what_twilio_answers_is_judged(status, code, headers, result, after):
    with Endpoint() as endpoint:
        endpoint.answers = [(status, headers, json.dumps({"code": code, "message": "Invalid 'To' Phone Number", "status": status}).encode())]
        [answer] = sms(twilio(endpoint.url, CARILLON_TWILIO_FROM="MG" + "1" * 32), "+4915112345678")
        assert answer["result"] == result and answer.get("after_seconds") == after and str(code) in answer["said"]
        assert b"MessagingServiceSid=MG" in endpoint.requests[0][2]


@pytest.mark.parametrize(
    "status, body, result, after",
    [(200, {"ok": True, "result": {"message_id": 7}}, "sent", None), (403, {"ok": False, "description": "bot was blocked by the user"}, "refused", None),
     (429, {"ok": False, "parameters": {"retry_after": 11}}, "later", 11), (502, {}, "later", None)])
def test_telegram(status, body, result, after):
    with Endpoint() as endpoint:
        endpoint.answers = [(status, {}, json.dumps(body).encode())]
        [answer] = carillon(
            {"CARILLON_TELEGRAM_BOT_TOKEN": "123:ABC-d_e", "CARILLON_TELEGRAM_URL": endpoint.url}, "message", "--channel", "telegram", "--to=-1001234",
            "--subject", "Title", "--text", "Text 🎉")
        assert answer["result"] == result and answer.get("after_seconds") == after
        path, headers, sent = endpoint.requests[0]
        assert path == "/bot123:ABC-d_e/sendMessage" and json.loads(sent) == {"chat_id": -1001234, "text": "Title\n\nText 🎉"}


# --- Webhooks ------------------------------------------------------------------------------------------------------------

LOOPBACK = {"CARILLON_WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8"}
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(b"another key, which it was before").decode()
DATA = '{"title":"Grüße","user_ids":["a","b"],"n":1.50}'


def call(url, *secrets, settings=LOOPBACK):
    [answer] = carillon(settings, "webhook", "--url", url, "--data", DATA, "--type", "chat.message_received", *[part for secret in secrets for part in ("--secret", secret)])
    return answer


def test_a_webhook_is_signed_in_both_ways():
    with Endpoint() as endpoint:
        assert call(endpoint.url + "/hook?a=b", SECRET, OLD)["result"] == "accepted"
        [(path, headers, body)] = endpoint.requests
        assert path == "/hook?a=b" and headers["Content-Type"] == "application/json"
        assert body.decode().startswith('{"type":"chat.message_received","timestamp":"') and body.decode().endswith(',"data":' + DATA + "}")
        lower = {name.lower(): value for name, value in headers.items()}
        assert lower["x-webhook-signature"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert len(lower["webhook-signature"].split(" ")) == 2
        # Whoever still has the old secret and whoever has the new one.
        for secret in (SECRET, OLD):
            assert standardwebhooks.Webhook(secret).verify(body, lower)["data"]["title"] == "Grüße"
            svix.webhooks.Webhook(secret).verify(body, {name.replace("webhook-", "svix-"): value for name, value in lower.items()})
        for tampered in (body + b" ", body.replace(b"1.50", b"1.51")):
            with pytest.raises(standardwebhooks.WebhookVerificationError):
                standardwebhooks.Webhook(SECRET).verify(tampered, lower)
        script = """
            const [secret, body, ours, id, time, standard] = process.argv.slice(1), {createHmac, timingSafeEqual} = require("crypto");
            const one = "sha256=" + createHmac("sha256", secret).update(body).digest("hex");
            const key = Buffer.from(secret.slice(6), "base64");
            const two = "v1," + createHmac("sha256", key).update(`${id}.${time}.${body}`).digest("base64");
            process.exit(timingSafeEqual(Buffer.from(one), Buffer.from(ours)) && standard.split(" ")[0] === two ? 0 : 1);
        """
        node = subprocess.run(
            ["node", "-e", script, SECRET, body.decode(), lower["x-webhook-signature"], lower["webhook-id"], lower["webhook-timestamp"], lower["webhook-signature"]],
            timeout=30)
        assert node.returncode == 0


def test_a_secret_that_is_no_standard_one_signs_with_its_bytes():
    with Endpoint() as endpoint:
        assert call(endpoint.url, "just a pass phrase ü")["result"] == "accepted"
        [(_, headers, body)] = endpoint.requests
        lower = {name.lower(): value for name, value in headers.items()}
        key = "just a pass phrase ü".encode()
        assert lower["x-webhook-signature"] == "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
        assert standardwebhooks.Webhook(key).verify(body, lower)["type"] == "chat.message_received"


@pytest.mark.parametrize(
    "status, headers, result, after",
    [(200, {}, "accepted", None), (204, {}, "accepted", None), (301, {"Location": "/elsewhere"}, "failed", None), (308, {"Location": "http://example.com"}, "failed", None),
     (404, {}, "failed", None), (410, {}, "gone", None), (429, {"Retry-After": "33"}, "failed", 33), (503, {"Retry-After": "2"}, "failed", 2), (500, {"Retry-After": "2"}, "failed", None)])
def test_what_an_endpoint_answers_is_judged(status, headers, result, after):
    with Endpoint() as endpoint:
        endpoint.answers = [(status, headers, b"" if status == 204 else b"x" * 5000)]
        answer = call(endpoint.url, SECRET)
        assert (answer["result"], answer["status"], answer["after_seconds"]) == (result, status, after)
        assert len(answer["answer"]) == (0 if status == 204 else 1024) and len(endpoint.requests) == 1


def test_webhooks_over_tls_need_a_certificate_that_is_trusted(certificate):
    path, context = certificate
    with Endpoint(tls=context) as endpoint:
        assert call(endpoint.url, SECRET)["result"] == "failed"
        assert not endpoint.requests
        assert call(endpoint.url, SECRET, settings={**LOOPBACK, "CARILLON_CA_FILE": path})["result"] == "accepted"


def test_webhooks_go_nowhere_inside_unless_that_is_allowed():
    with Endpoint() as endpoint:
        port = endpoint.server.server_port
        for url in (endpoint.url, f"http://localhost:{port}", f"http://2130706433:{port}", f"http://[::ffff:127.0.0.1]:{port}"):
            answer = call(url, SECRET, settings={})
            assert answer["result"] == "failed" and "refused" in answer["said"], answer
        assert not endpoint.requests
