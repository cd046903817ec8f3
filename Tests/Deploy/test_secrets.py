"""Secrets from files, and what a copy of the database does not tell: a dump of it, after every way in which a secret gets there, is searched."""

import base64
import contextlib
import hashlib
import hmac
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from carillon import PATIENCE, bearer
from servers import LEAKS, SECRET, Node, Postgres, World, until

# All that hold a secret, each with others that are needed for it to be read.
SECRETS = {
    "CARILLON_DATABASE_URL": {}, "CARILLON_REDIS_URL": {}, "CARILLON_JWT_SECRET": {}, "CARILLON_METRICS_TOKEN": {}, "CARILLON_SECRETS_KEY": {},
    "CARILLON_SECRETS_KEY_OLD": {"CARILLON_SECRETS_KEY": "k" * 32}, "CARILLON_SMTP_URL": {}, "CARILLON_TELEGRAM_BOT_TOKEN": {},
    "CARILLON_TWILIO_AUTH_TOKEN": {"CARILLON_SMS_PROVIDER": "twilio"}, "CARILLON_AWS_ACCESS_KEY_ID": {"CARILLON_SMS_PROVIDER": "sns"},
    "CARILLON_AWS_SECRET_ACCESS_KEY": {"CARILLON_SMS_PROVIDER": "sns", "CARILLON_AWS_ACCESS_KEY_ID": "x"},
    "CARILLON_AWS_SESSION_TOKEN": {"CARILLON_SMS_PROVIDER": "sns", "CARILLON_AWS_ACCESS_KEY_ID": "x", "CARILLON_AWS_SECRET_ACCESS_KEY": "x"},
}  # fmt: skip
LEAST = {
    "CARILLON_DATABASE_URL": "postgresql://127.0.0.1:1/x", "CARILLON_REDIS_URL": "redis://127.0.0.1:1", "CARILLON_JWT_SECRET": SECRET, "CARILLON_PORT": "0",
    "PATH": os.environ["PATH"],
}  # fmt: skip


def start(environment, *, powerless=False):
    """Of a node that must not: what it said."""
    # Root may read whatever it likes, unless that is taken from it.
    change = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if powerless and os.geteuid() == 0 else []
    done = subprocess.run(
        [*change, os.environ["CARILLON_BIN"], "serve"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, cwd="/", check=False
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_is_missing_empty_or_not_to_be_read_stops_the_start_and_is_named(name, tmp_path):
    path = tmp_path / "secret"
    environment = LEAST | SECRETS[name] | {f"{name}_FILE": str(path)}
    environment.pop(name, None)
    assert f"{name}_FILE: {path}: there is no such file" in start(environment)
    path.write_text("\n")
    assert f"{name}_FILE: {path} is empty" in start(environment)
    path.write_text("what nobody is to see")
    path.chmod(0)
    said = start(environment, powerless=True)
    assert f"{name}_FILE: {path}: this user may not read it" in said and "nobody" not in said


def test_a_value_that_cannot_be_is_not_shown(tmp_path):
    path = tmp_path / "secret"
    path.write_text("too-short-a-key")
    for name in ("CARILLON_JWT_SECRET", "CARILLON_SECRETS_KEY"):
        environment = LEAST | {f"{name}_FILE": str(path)}
        environment.pop(name, None)
        said = start(environment)
        assert name in said and "too-short" not in said


class Endpoint:
    """Keeps what it is sent."""

    def __init__(self):
        calls = self.calls = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                calls.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def signed(self, secret):
        """Whether the last call was signed with that secret."""
        headers, body = self.calls[-1]
        return hmac.compare_digest(headers["X-Webhook-Signature"], "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()


OLD, NEW, OTHER = "the first key of webhooks' secrets, 32", "the second key of webhooks' secrets, 32", "a key that has sealed nothing, 32 bytes"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A node all of whose secrets lie in files."""
    folder = tmp_path_factory.mktemp("secrets")
    with World(apis=0, edges=0) as world:
        values = {name: world.environment[name] for name in ("CARILLON_DATABASE_URL", "CARILLON_REDIS_URL", "CARILLON_JWT_SECRET")} | {
            "CARILLON_METRICS_TOKEN": "metrics-token-of-these-tests", "CARILLON_SECRETS_KEY": OLD, "CARILLON_TWILIO_AUTH_TOKEN": "twilio-token-of-these-tests",
            "CARILLON_TELEGRAM_BOT_TOKEN": "123:telegram-token-of-these-tests", "CARILLON_SMTP_URL": "smtp://user:smtp-password-of-these-tests@127.0.0.1:1",
        }  # fmt: skip
        for name, value in values.items():
            path = folder / name.lower()
            path.write_text(value + "\n")
            path.chmod(0o600)
            world.environment[name + "_FILE"] = str(path)
            world.environment.pop(name, None)
        world.environment |= {
            "CARILLON_WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8", "CARILLON_SMS_PROVIDER": "twilio", "CARILLON_TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "CARILLON_TWILIO_FROM": "+4915112345678",
            "CARILLON_EMAIL_FROM": "a@example.org", "CARILLON_PUBLIC_URL": "https://example.org",
        }  # fmt: skip
        world.everything = world.carillon("apikey", "create", "--name", "everything", "--scopes", "notify,direct,webhooks,contacts,admin")
        world.values = values
        world.apis = [world._keep(Node(world, "all-1", "all", {}))]
        world.edges = world.apis
        until(world.apis[0].is_whole, "the node to be ready")
        yield world


def call(world, method, path, **options):
    return requests.request(method, world.apis[0].url + "/v1" + path, headers=bearer(world.everything) | options.pop("headers", {}), timeout=PATIENCE, **options)


def test_a_node_whose_secrets_lie_in_files_uses_each_of_them(world):
    node = world.apis[0]
    assert requests.get(node.url + "/metrics", timeout=PATIENCE).status_code == 401
    assert requests.get(node.url + "/metrics", headers=bearer("metrics-token-of-these-testz"), timeout=PATIENCE).status_code == 401
    assert requests.get(node.url + "/metrics", headers=bearer(world.values["CARILLON_METRICS_TOKEN"]), timeout=PATIENCE).status_code == 200
    assert world.get(world.user(), "/count")["unread"] == 0
    # As Twilio signs.
    form = {"MessageSid": "SM1", "MessageStatus": "sent"}
    text = "https://example.org/v1/callbacks/twilio" + "".join(name + form[name] for name in sorted(form))
    signature = base64.b64encode(hmac.new(world.values["CARILLON_TWILIO_AUTH_TOKEN"].encode(), text.encode(), hashlib.sha1).digest()).decode()
    url = node.url + "/v1/callbacks/twilio"
    assert requests.post(url, data=form, headers={"X-Twilio-Signature": signature}, timeout=PATIENCE).status_code == 204
    assert requests.post(url, data=form, headers={"X-Twilio-Signature": signature[::-1]}, timeout=PATIENCE).status_code == 403
    said = subprocess.run([world.binary, "check"], env=world.environment, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "ok      settings" in said and "ok      postgres" in said and "ok      redis" in said, said
    for value in world.values.values():
        assert value not in said


def dump(world):
    return subprocess.run(
        [f"{Postgres.programs}/pg_dump", "-h", "127.0.0.1", "-p", str(world.postgres.port), "-U", "carillon", "--inserts", "carillon"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.lower()  # fmt: skip


def forms(secret):
    """As it could stand in a dump: as it is, in the hex of a bytea, in base64, in halves."""
    raw = secret.encode()
    return [secret.lower(), raw.hex(), base64.b64encode(raw).decode().rstrip("=").lower()[:-2], secret[: len(secret) // 2].lower(), raw[len(raw) // 2 :].hex()]


def test_no_secret_is_in_a_dump_of_the_database(world):
    user, chosen, second = world.user(), "a-secret-that-the-customer-chose", "another-secret-the-customer-chose"
    secrets = {"a token": world.token(user), **world.values, "an API key": world.everything, "the tests' key": world.key, "a chosen secret": chosen, "a rotated one": second}
    made = call(world, "POST", "/webhooks", json={"url": "https://example.org/hook", "events": ["*"], "secret": chosen}, headers={"Idempotency-Key": "one"})
    assert made.status_code == 201, made.text
    assert call(world, "POST", f"/webhooks/{made.json()['id']}/rotate", json={"secret": second}, headers={"Idempotency-Key": "two"}).status_code == 200
    generated = call(world, "POST", "/webhooks", json={"url": "https://example.org/hook", "events": ["*"]}, headers={"Idempotency-Key": "three"}).json()
    assert generated["secret"].startswith("whsec_")
    secrets["a generated secret"] = generated["secret"].removeprefix("whsec_")
    # The answer is kept for the idempotency key, and comes again.
    again = call(world, "POST", "/webhooks", json={"url": "https://example.org/hook", "events": ["*"]}, headers={"Idempotency-Key": "three"})
    assert again.json() == generated and again.headers["idempotent-replayed"] == "true"
    key = call(world, "POST", "/admin/apikeys", json={"name": "made", "scopes": ["notify"]}, headers={"Idempotency-Key": "four"}).json()["key"]
    secrets["a key that was made"] = key.removeprefix("ck_")
    ticket = requests.post(world.apis[0].url + "/v1/notifications/stream-ticket", headers=bearer(world.token(user)), timeout=PATIENCE).json()["ticket"]
    secrets["a ticket"] = ticket.split(".")[1]
    # What is there may be found: this is no search that cannot fail.
    world.notify(user, title="a-title-that-is-in-the-dump")
    # The audit's rows are written a moment later.
    until(lambda: "/v1/admin/apikeys" in dump(world), "the audit log to be written")
    text = dump(world)
    assert "a-title-that-is-in-the-dump" in text and "https://example.org/hook" in text
    found = [name for name, secret in secrets.items() if any(form in text for form in forms(secret))]
    # The URL of the database says where it is, and holds no password here.
    assert [name for name in found if name not in ("CARILLON_DATABASE_URL", "CARILLON_REDIS_URL")] == []
    assert not re.search(LEAKS.pattern.lower(), text)


def check(world, environment):
    done = subprocess.run([world.binary, "check"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, next(line for line in done.stdout.splitlines() if "webhook secrets" in line)


def test_the_key_of_webhooks_secrets_is_changed_without_a_gap_and_a_wrong_one_says_so(world):
    with Endpoint() as endpoint:
        secret = "a-secret-that-outlives-its-key"
        made = call(world, "POST", "/webhooks", json={"url": endpoint.url, "events": ["*"], "secret": secret}).json()

        def told(place):
            answer = call(place, "POST", f"/webhooks/{made['id']}/test")
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert told(world)["error"] is None and endpoint.signed(secret)
        keys = ("CARILLON_SECRETS_KEY", "CARILLON_SECRETS_KEY_OLD", "CARILLON_SECRETS_KEY_FILE")
        bare = {name: value for name, value in world.environment.items() if name not in keys}

        @contextlib.contextmanager
        def node(**settings):
            kept, world.environment = world.environment, bare | settings
            apis = world.apis
            world.apis = [Node(world, "other-1", "all", {})]
            try:
                until(world.apis[0].is_whole, "the node to be ready")
                yield world.environment
            finally:
                world.apis[0].end()
                world.environment, world.apis = kept, apis

        with node(CARILLON_SECRETS_KEY=OTHER) as environment:
            said = told(world)
            assert said["status"] is None and "CARILLON_SECRETS_KEY" in said["error"]
            status, line = check(world, environment)
            assert status == 1 and line.startswith("FAILED") and "CARILLON_SECRETS_KEY" in line and OTHER not in line
            done = subprocess.run([world.binary, "secrets", "reseal"], env=environment, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode != 0 and "CARILLON_SECRETS_KEY" in done.stderr and made["id"] not in done.stdout
        with node(CARILLON_SECRETS_KEY=NEW, CARILLON_SECRETS_KEY_OLD=OLD) as environment:
            calls = len(endpoint.calls)
            assert told(world)["error"] is None and endpoint.signed(secret) and len(endpoint.calls) == calls + 1
            # What is written meanwhile is under the new key.
            young = call(world, "POST", "/webhooks", json={"url": endpoint.url, "events": ["*"], "secret": "a-young-secret"}).json()
            status, line = check(world, environment)
            assert status == 0 and "1 under this key" in line and "reseal" in line, line
            said = world.carillon("secrets", "reseal")
            assert said.endswith("under this key before 1"), said
            assert world.carillon("secrets", "reseal").startswith("resealed 0, ")
        with node(CARILLON_SECRETS_KEY=NEW) as environment:
            assert told(world)["error"] is None and endpoint.signed(secret)
            assert call(world, "POST", f"/webhooks/{young['id']}/test").json()["error"] is None and endpoint.signed("a-young-secret")
            assert check(world, environment)[0] == 0
        # The node with the old key alone cannot read them any more, and says why.
        assert "CARILLON_SECRETS_KEY" in told(world)["error"]
