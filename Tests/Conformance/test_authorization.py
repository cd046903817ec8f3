"""Who may do what: every route with every kind of credential, each cell with its answer.

What is expected is computed from the tables here and nowhere else. A route of /openapi.json that is missing here is an error.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness import PATIENCE, eventually, free_port, tolerant

SCOPES = ("notify", "direct", "webhooks", "contacts", "admin")
UNKNOWN = "01930000-0000-7000-8000-000000000000"
PAGE, FOREIGN = "https://app.example.com", "https://evil.example"
ISSUER, AUDIENCE = "https://issuer.example.com", "carillon-tests"
MINE, NOT_MINE = "customer-a", "customer-b"

# --- The routes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    # A row of ANSWERS.
    kind: str
    # What is answered where nothing is wrong with the credential.
    ok: int
    # With this scope, where the kind asks for one.
    scope: str | None = None
    body: dict | None = None
    query: dict = field(default_factory=dict)
    # Its id is that of a notification of the user, of this customer.
    owned: bool = False
    customer: str | None = None
    # An administrator of some customers sees those.
    narrows: bool = False

    @property
    def names_customer(self):
        return NOT_MINE in (self.query.get("customer_id"), (self.body or {}).get("customer_id"))

    def __str__(self):
        named = self.query.get("customer_id") or (self.body or {}).get("customer_id")
        return f"{self.method} {self.path}" + (f", of {self.customer}" if self.customer else "") + (f", for {named}" if named else "")


def of_user(method, path, ok=200, write=None, **options):
    write = method != "GET" if write is None else write
    return Route(method, path, "user writes" if write else "user reads", ok, **options)


def on_notification(method, path, ok=200, **options):
    """The user's own, of no customer, of one, and of another."""
    return [of_user(method, path, ok, owned=True, customer=customer, **options) for customer in (None, MINE, NOT_MINE)]


def with_customer(method, path, **options):
    """Without a customer, and naming each of two."""
    place = options.pop("place", "query" if method == "GET" else "body")
    given = options.pop(place, {})
    return [of_user(method, path, **{place: {**given, **more}}, **options) for more in ({}, {"customer_id": MINE}, {"customer_id": NOT_MINE})]


def of_application(method, path, scope, ok=200, **options):
    return Route(method, path, "application", ok, scope=scope, **options)


def of_administrator(method, path, ok=200, scope="admin", **options):
    """By the scope of a key, or by the role of a user whose token is for all customers."""
    kind = "administration reads" if method == "GET" else "administration writes"
    return Route(method, path, kind, ok, scope=scope, **options)


def of_webhooks(method, path, ok=200, **options):
    """The same by another scope, and for administrators of some customers, too."""
    return of_administrator(method, path, ok, scope="webhooks", narrows=True, **options)


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
MESSAGE = {"title": "Hello", "user_ids": ["USER"]}

ROUTES = [
    *with_customer("GET", "/v1/notifications"),
    *with_customer("GET", "/v1/notifications/count"),
    *on_notification("GET", "/v1/notifications/{id}"),
    *on_notification("PATCH", "/v1/notifications/{id}", body={"seen": True}),
    *on_notification("DELETE", "/v1/notifications/{id}", 204),
    *on_notification("GET", "/v1/notifications/{id}/deliveries"),
    *on_notification("PATCH", "/v1/notifications/{id}/read"),
    *on_notification("POST", "/v1/notifications/{id}/read"),
    *with_customer("PATCH", "/v1/notifications/read-all"),
    *with_customer("POST", "/v1/notifications/read-all"),
    *with_customer("GET", "/v1/notifications/preferences"),
    *with_customer("PUT", "/v1/notifications/preferences", place="query", body={}),
    *with_customer("PATCH", "/v1/notifications/preferences", place="query", body={}),
    *with_customer("GET", "/v1/notifications/preferences/effective"),
    of_user("POST", "/v1/notifications/seen"),
    of_user("POST", "/v1/notifications/stream-ticket"),
    of_user("POST", "/v1/notifications/stream-renew", 404, body={"connection_id": UNKNOWN}),
    *[Route("GET", f"/v1/notifications/{name}", "stream", 200, query=query)
      for name in ("sse", "stream") for query in ({}, {"customer_id": MINE}, {"customer_id": NOT_MINE})],
    *[Route("GET", "/v1/notifications/ws", "socket", 101, query=query) for query in ({}, {"customer_id": MINE}, {"customer_id": NOT_MINE})],
    *[Route("GET", "/v1/notifications/poll", "stream", 200, query={"after": after, "timeout": "0", **query})
      for after in ("", "1-0") for query in ({}, {"customer_id": MINE}, {"customer_id": NOT_MINE})],
    # Who it is says the first packet; only what stands in the handshake by itself must be right.
    Route("GET", "/socket.io/", "session", 200, query={"EIO": "4", "transport": "polling"}),
    Route("POST", "/socket.io/", "open", 400, query={"EIO": "4", "transport": "polling", "sid": "unknown"}),
    of_application("POST", "/v1/notifications/sse", "direct", body=MESSAGE),
    of_application("POST", "/v1/internal/notify", "notify", 201, body=MESSAGE),
    of_application("GET", "/v1/internal/users/{id}/count", "notify"),
    of_application("POST", "/v1/notifications/trigger", "notify", 202, body=MESSAGE),
    of_application("GET", "/v1/jobs/{id}", "notify", 404),
    of_application("PATCH", "/v1/internal/notifications", "notify", 404, body={"id": UNKNOWN, "title": "New"}),
    of_application("DELETE", "/v1/internal/notifications", "notify", 404, query={"id": UNKNOWN}),
    of_application("PUT", "/v1/contacts/{user_id}", "contacts", body={}),
    of_application("GET", "/v1/contacts/{user_id}", "contacts", 404),
    of_application("DELETE", "/v1/contacts/{user_id}", "contacts", 404),
    of_administrator("GET", "/v1/admin/apikeys"),
    of_administrator("POST", "/v1/admin/apikeys", 201, body={"name": "conf", "scopes": ["notify"]}),
    of_administrator("DELETE", "/v1/admin/apikeys/{id}", 404),
    of_administrator("GET", "/v1/admin/audit"),
    of_administrator("GET", "/v1/admin/connections"),
    of_administrator("GET", "/v1/admin/queues"),
    of_administrator("GET", "/v1/admin/dead-letters"),
    of_administrator("POST", "/v1/admin/dead-letters/{id}/retry", 404),
    of_administrator("DELETE", "/v1/admin/dead-letters/{id}", 404),
    *[of_administrator("GET", f"/v1/admin/{name}", narrows=True, query=query)
      for name in ("stats", "deliveries") for query in ({}, {"customer_id": MINE}, {"customer_id": NOT_MINE})],
    of_administrator("POST", "/v1/admin/users/{id}/disconnect"),
    of_administrator("POST", "/v1/admin/users/{id}/export"),
    of_administrator("DELETE", "/v1/admin/users/{id}", 204),
    *[of_webhooks("GET", "/v1/webhooks", query=query) for query in ({}, {"customer_id": MINE}, {"customer_id": NOT_MINE})],
    *[of_webhooks("POST", "/v1/webhooks", 201, body={"url": "https://1.1.1.1/", "events": ["conf"], "customer_id": customer}) for customer in (MINE, NOT_MINE)],
    of_webhooks("GET", "/v1/webhooks/{id}", 404),
    of_webhooks("PATCH", "/v1/webhooks/{id}", 404, body={}),
    of_webhooks("DELETE", "/v1/webhooks/{id}", 404),
    *[of_webhooks("POST", f"/v1/webhooks/{{id}}/{verb}", 404) for verb in ("test", "rotate", "enable", "replay")],
    of_webhooks("GET", "/v1/webhooks/{id}/attempts", 404),
    of_application("POST", "/v1/events", "notify", 202, body={"type": "SYSTEM"}),
    Route("GET", "/v1/unsubscribe/{token}", "open", 404),
    Route("POST", "/v1/unsubscribe/{token}", "open", 404),
    # Signed by Twilio, or nothing.
    Route("POST", "/v1/callbacks/twilio", "signed", 204),
    Route("GET", "/health/live", "open", 200),
    Route("GET", "/health/ready", "open", 200),
    Route("GET", "/metrics", "open", 200),
    Route("GET", "/openapi.json", "open", 200),
    Route("GET", "/client/{file}", "open", 200),
    Route("GET", "/console", "open", 200),
    Route("GET", "/demo", "open", 200),
    # A node that has no secret cannot make tokens; that is not about who asks.
    Route("POST", "/demo/token", "open", 422, query={"user": ""}),
    Route("POST", "/demo/notify", "page", 204, body=MESSAGE),
    # Without a folder for e-mails there are none.
    Route("GET", "/demo/mails", "open", 404, query={"user": "u"}),
]  # fmt: skip

# --- The answers ---------------------------------------------------------------------------------------------------------

OK = "ok"
NO_USER, NO_KEY = (401, "invalid_user_id"), (401, "unauthorized")
FORBIDDEN, NOT_FOUND = (403, "forbidden"), (404, "not_found")


def own(route):
    return OK


def others(route):
    """For somebody else's token: that user's own inbox, in which the row is not."""
    return NOT_FOUND if route.owned else OK


def limited(route):
    """For a token of one customer: naming another is forbidden, rows of others do not exist."""
    if route.names_customer:
        return FORBIDDEN
    return NOT_FOUND if route.customer == NOT_MINE else OK


def nobodys(route):
    """For a token of no customer at all: rows of no customer are left."""
    if route.query.get("customer_id") or (route.body or {}).get("customer_id"):
        return FORBIDDEN
    return NOT_FOUND if route.customer else OK


def others_limited(route):
    return FORBIDDEN if route.names_customer else others(route)


def narrowed(route):
    if not route.narrows or route.names_customer:
        return FORBIDDEN
    return OK


ANSWERS = {
    "user reads": {
        "nothing": NO_USER, "bad token": NO_USER, "user": own, "other user": others, "limited": limited, "nobody's": nobodys,
        "admin": others, "limited admin": others_limited, "admin cookie": others, "admin cookie, no origin": others,
        "admin cookie, foreign origin": others, "cookie": own, "cookie, no origin": own, "cookie, foreign origin": own, "bad cookie": NO_USER,
        "key": FORBIDDEN, "bad key": FORBIDDEN, "key in its header": NO_USER, "bad key in its header": NO_USER, "token as key": NO_USER,
        "ticket": NO_USER, "used ticket": NO_USER,
    },
    "application": {
        "nothing": NO_KEY, "bad token": NO_KEY, "user": FORBIDDEN, "other user": FORBIDDEN, "limited": FORBIDDEN, "nobody's": FORBIDDEN,
        "admin": FORBIDDEN, "limited admin": FORBIDDEN, "admin cookie": NO_KEY, "admin cookie, no origin": NO_KEY,
        "admin cookie, foreign origin": NO_KEY, "cookie": NO_KEY, "cookie, no origin": NO_KEY, "cookie, foreign origin": NO_KEY, "bad cookie": NO_KEY,
        "key": own, "bad key": NO_KEY, "key in its header": own, "bad key in its header": NO_KEY, "token as key": NO_KEY,
        "ticket": NO_KEY, "used ticket": NO_KEY,
    },
    "administration reads": {
        "nothing": NO_KEY, "bad token": NO_KEY, "user": FORBIDDEN, "other user": FORBIDDEN, "limited": FORBIDDEN, "nobody's": FORBIDDEN,
        "admin": own, "limited admin": narrowed, "admin cookie": own, "admin cookie, no origin": own, "admin cookie, foreign origin": own,
        "cookie": FORBIDDEN, "cookie, no origin": FORBIDDEN, "cookie, foreign origin": FORBIDDEN, "bad cookie": NO_KEY,
        "key": own, "bad key": NO_KEY, "key in its header": own, "bad key in its header": NO_KEY, "token as key": NO_KEY,
        "ticket": NO_KEY, "used ticket": NO_KEY,
    },
}  # fmt: skip
NOT_BY_COOKIE = {"admin cookie, no origin": FORBIDDEN, "admin cookie, foreign origin": FORBIDDEN}
ANSWERS["user writes"] = {**ANSWERS["user reads"], **NOT_BY_COOKIE, "cookie, no origin": FORBIDDEN, "cookie, foreign origin": FORBIDDEN}
ANSWERS["administration writes"] = {**ANSWERS["administration reads"], **NOT_BY_COOKIE}
ANSWERS["stream"] = {**ANSWERS["user reads"], "ticket": own}
ANSWERS["socket"] = {**ANSWERS["user writes"], "ticket": own}
ANSWERS["session"] = {
    **dict.fromkeys(ANSWERS["user reads"], own), **NOT_BY_COOKIE, "cookie, no origin": FORBIDDEN, "cookie, foreign origin": FORBIDDEN,
}  # fmt: skip
ANSWERS["open"] = dict.fromkeys(ANSWERS["user reads"], own)
ANSWERS["signed"] = dict.fromkeys(ANSWERS["user reads"], FORBIDDEN)
# The demo's own page is known by its origin, which stands beside these cookies.
ANSWERS["page"] = {**dict.fromkeys(ANSWERS["user reads"], FORBIDDEN), "cookie": own, "bad cookie": own, "admin cookie": own}


def expected(route, credential):
    answer = ANSWERS[route.kind][credential.kind]
    if credential.scopes is not None and route.scope is not None and answer is own and route.scope not in credential.scopes:
        return FORBIDDEN
    if callable(answer):
        answer = answer(route)
    return (route.ok, None) if answer == OK else answer


# --- The credentials -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Credential:
    name: str
    # A column of ANSWERS.
    kind: str
    # Makes headers and query from (node, case).
    make: object
    # Of an API key.
    scopes: frozenset | None = None


def bearer(token):
    return {"Authorization": f"Bearer {token}"}, {}


def cookie(token, origin=None):
    return {"Cookie": f"theme=dark; carillon_token={token}", **({"Origin": origin} if origin else {})}, {}


def as_key(text):
    return {"X-API-Key": text}, {}


def credentials():
    def token(name, kind, **claims):
        return Credential(name, kind, lambda node, case: bearer(node.token(case.user, **claims)))

    soon = lambda seconds: int(time.time()) + seconds  # noqa: E731
    yield Credential("nothing", "nothing", lambda node, case: ({}, {}))
    yield Credential("an empty bearer token", "nothing", lambda node, case: ({"Authorization": "Bearer"}, {}))
    yield Credential("another scheme", "nothing", lambda node, case: ({"Authorization": "Basic dXNlcjpwYXNz"}, {}))
    yield Credential("garbage", "bad token", lambda node, case: bearer("garbage"))
    yield Credential("garbage with dots", "bad token", lambda node, case: bearer("e30.e30.e30"))
    yield token("user", "user")
    yield token("user with another role", "user", role="support")
    yield token("user of one customer", "limited", customers=[MINE])
    yield token("user of no customer", "nobody's", customers=[])
    yield Credential("other user", "other user", lambda node, case: bearer(node.token(case.other)))
    yield Credential("admin", "admin", lambda node, case: bearer(node.token(case.other, role="admin")))
    yield Credential("admin by roles", "admin", lambda node, case: bearer(node.token(case.other, roles=["x", "admin"])))
    yield Credential("admin of one customer", "limited admin", lambda node, case: bearer(node.token(case.other, role="admin", customers=[MINE])))
    yield Credential("admin's cookie, listed origin", "admin cookie", lambda node, case: cookie(node.token(case.other, role="admin"), PAGE))
    yield Credential("admin's cookie, no origin", "admin cookie, no origin", lambda node, case: cookie(node.token(case.other, role="admin")))
    yield Credential(
        "admin's cookie, foreign origin", "admin cookie, foreign origin", lambda node, case: cookie(node.token(case.other, role="admin"), FOREIGN)
    )
    yield Credential("expired", "bad token", lambda node, case: bearer(node.token(case.user, exp=soon(-1))))
    yield Credential("without expiry", "bad token", lambda node, case: bearer(node.token(case.user, exp=None)))
    yield Credential("not yet valid", "bad token", lambda node, case: bearer(node.token(case.user, nbf=soon(300))))
    yield token("without a user", "bad token", sub=None)
    yield token("expired admin", "bad token", role="admin", exp=1)
    yield Credential("wrong signature", "bad token", lambda node, case: bearer(node.forged(case.user)))
    yield Credential("another's claims under the signature", "bad token", lambda node, case: bearer(node.swapped(case.user, case.other)))
    for algorithm in ("none", "None", "NONE"):
        yield Credential(
            f"alg {algorithm}", "bad token", lambda node, case, algorithm=algorithm: bearer(node.unsigned(case.user, algorithm))
        )
    yield Credential("HS256 with the public key", "bad token", lambda node, case: bearer(node.confused(case.user)))
    yield Credential("cookie, listed origin", "cookie", lambda node, case: cookie(node.token(case.user), PAGE))
    yield Credential("cookie, own host", "cookie", lambda node, case: cookie(node.token(case.user), node.url))
    yield Credential("cookie, no origin", "cookie, no origin", lambda node, case: cookie(node.token(case.user)))
    for origin in (FOREIGN, "null", PAGE + ".evil.example", PAGE.replace("https", "http")):
        yield Credential(
            f"cookie, origin {origin}", "cookie, foreign origin", lambda node, case, origin=origin: cookie(node.token(case.user), origin)
        )
    yield Credential("expired cookie", "bad cookie", lambda node, case: cookie(node.token(case.user, exp=1), PAGE))
    yield Credential("key as cookie", "bad cookie", lambda node, case: cookie(node.key(*SCOPES), PAGE))
    for scopes in ((scope,) for scope in SCOPES):
        name = f"key for {scopes[0]}"
        yield Credential(name, "key", lambda node, case, scopes=scopes: bearer(node.key(*scopes)), frozenset(scopes))
        yield Credential(
            f"{name} as X-API-Key", "key in its header", lambda node, case, scopes=scopes: as_key(node.key(*scopes)), frozenset(scopes)
        )
    yield Credential("key for all", "key", lambda node, case: bearer(node.key(*SCOPES)), frozenset(SCOPES))
    yield Credential("key for all as X-API-Key", "key in its header", lambda node, case: as_key(node.key(*SCOPES)), frozenset(SCOPES))
    yield Credential("revoked key", "bad key", lambda node, case: bearer(node.revoked))
    yield Credential("revoked key as X-API-Key", "bad key in its header", lambda node, case: as_key(node.revoked))
    yield Credential("unknown key", "bad key", lambda node, case: bearer("ck_" + "A" * 43))
    yield Credential("unknown key as X-API-Key", "bad key in its header", lambda node, case: as_key("ck_" + "A" * 43))
    yield Credential("user's token as X-API-Key", "token as key", lambda node, case: as_key(node.token(case.user)))
    yield Credential("admin's token as X-API-Key", "token as key", lambda node, case: as_key(node.token(case.other, role="admin")))
    yield Credential("ticket", "ticket", lambda node, case: ({}, {"ticket": node.ticket(case.user)}))
    yield Credential("used ticket", "used ticket", lambda node, case: ({}, {"ticket": node.used_ticket(case.user)}))
    yield Credential("forged ticket", "used ticket", lambda node, case: ({}, {"ticket": node.ticket(case.user)[:-1] + "x"}))
    yield Credential("ticket as token", "bad token", lambda node, case: bearer(node.ticket(case.user)))
    yield Credential("token as ticket", "used ticket", lambda node, case: ({}, {"ticket": node.token(case.user)}))


def credentials_of_public_keys():
    """What only a node that checks issuer and audience refuses."""
    for name, claims in {
        "wrong issuer": {"iss": "https://evil.example"}, "no issuer": {"iss": None}, "issuer and more": {"iss": ISSUER + "/"},
        "wrong audience": {"aud": "other"}, "no audience": {"aud": None}, "other audiences": {"aud": ["other", AUDIENCE + "2"]},
    }.items():  # fmt: skip
        yield Credential(name, "bad token", lambda node, case, claims=claims: bearer(node.token(case.user, **claims)))
    yield Credential(
        "audience among others", "user", lambda node, case: bearer(node.token(case.user, aud=["other", AUDIENCE]))
    )
    yield Credential("HS256 with a secret of the cluster", "bad token", lambda node, case: bearer(node.by_secret(case.user)))


# --- The nodes -----------------------------------------------------------------------------------------------------------


def part(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


class Node:
    """A node with the roles api and edge, of the cluster's database and Redis, that checks tokens in its own way."""

    def __init__(self, cluster, folder):
        self.folder = folder
        self.program = os.environ["CARILLON_BIN"]
        self.environment = {
            "PATH": os.environ["PATH"], "CARILLON_DATABASE_URL": cluster.database_url, "CARILLON_REDIS_URL": os.environ["CARILLON_REDIS_URL"],
            "CARILLON_CORS_ORIGINS": PAGE, "CARILLON_DEMO": "on", "CARILLON_NODE_NAME": type(self).__name__, "CARILLON_DRAIN_SECONDS": "0",
            "CARILLON_SECRETS_KEY": "a key that only these tests know, 32",
            **self.settings(),
        }  # fmt: skip
        self.http = httpx.Client(trust_env=False, timeout=PATIENCE)
        self._keys = {}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = open(folder / "log", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [self.program, "serve", "--roles", "api,edge", "--port", str(port)], env=self.environment, stdin=subprocess.DEVNULL, stderr=self.log
        )

    def wait(self):
        def ready():
            assert self.process.poll() is None, f"the node ended: {self.text()}"
            answer = self.http.get(f"{self.url}/health/ready")
            return answer.status_code == 200 and answer.json()["status"] == "ready"

        eventually("the node is ready", tolerant(ready))

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.log.close()

    def command(self, *arguments):
        result = subprocess.run([self.program, *arguments], env=self.environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    # Credentials.

    def key(self, *scopes):
        if scopes not in self._keys:
            self._keys[scopes] = self.command("apikey", "create", "--name", f"conf {' '.join(scopes)}", "--scopes", ",".join(scopes))
        return self._keys[scopes]

    @property
    def revoked(self):
        """Revoked before any node has seen it: from then on it takes up to two seconds."""
        if "revoked" not in self._keys:
            name = f"conf-{uuid.uuid4().hex}"
            key = self.command("apikey", "create", "--name", name, "--scopes", ",".join(SCOPES))
            [line] = [line for line in self.command("apikey", "list").splitlines() if name in line]
            self.command("apikey", "revoke", line.split()[0])
            self._keys["revoked"] = key
        return self._keys["revoked"]

    def claims(self, user, **changes):
        now = int(time.time())
        merged = {"sub": user, "iat": now, "exp": now + 600, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def swapped(self, user, other):
        head, _, signature = self.token(other).split(".")
        return ".".join((head, part(self.claims(user)), signature))

    def unsigned(self, user, algorithm):
        return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(self.claims(user))}."

    def confused(self, user):
        """Signed with the public key's text as if it were a secret."""
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(self.claims(user))}"
        return f"{signed}.{part(hmac.new(PUBLIC.encode(), signed.encode(), hashlib.sha256).digest())}"

    def by_secret(self, user):
        return jwt.encode(self.claims(user), SECRET, algorithm="HS256")

    def ticket(self, user):
        answer = self.http.post(f"{self.url}/v1/notifications/stream-ticket", headers=bearer(self.token(user))[0])
        assert answer.status_code == 200, answer.text
        return answer.json()["ticket"]

    def used_ticket(self, user):
        ticket = self.ticket(user)
        with self.http.stream("GET", f"{self.url}/v1/notifications/sse", params={"ticket": ticket}) as answer:
            assert answer.status_code == 200
        self.http.cookies.clear()
        return ticket


SECRET = "a secret that these tests share with one node, of enough bytes"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class SecretNode(Node):
    """HS256; issuer and audience are not looked at."""

    def settings(self):
        return {"CARILLON_JWT_SECRET": SECRET}

    def token(self, user, **changes):
        return jwt.encode(self.claims(user, **changes), SECRET, algorithm="HS256")

    def forged(self, user):
        return jwt.encode(self.claims(user), SECRET[::-1], algorithm="HS256")


class PublicKeyNode(Node):
    """ES256 only, of one issuer, for one audience."""

    def settings(self):
        file = self.folder / "public.pem"
        file.write_text(PUBLIC)
        return {"CARILLON_JWT_PUBLIC_KEY_FILE": str(file), "CARILLON_JWT_ISSUER": ISSUER, "CARILLON_JWT_AUDIENCE": AUDIENCE}

    def claims(self, user, **changes):
        return super().claims(user, **{"iss": ISSUER, "aud": AUDIENCE, **changes})

    def token(self, user, **changes):
        return self.sign(self.claims(user, **changes), PRIVATE)

    def forged(self, user):
        return self.sign(self.claims(user), ec.generate_private_key(ec.SECP256R1()))

    @staticmethod
    def sign(claims, key):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        # The library looks at some claims before it signs, and these are to be wrong.
        return jwt.PyJWS().encode(json.dumps(claims).encode(), pem, algorithm="ES256")


@pytest.fixture(scope="module", params=[SecretNode, PublicKeyNode], ids=lambda kind: kind.__name__)
def node(request, cluster, tmp_path_factory):
    node = request.param(cluster, tmp_path_factory.mktemp("node"))
    try:
        node.wait()
        yield node
    finally:
        node.stop()


# --- The cells -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    user: str
    other: str
    id: str


def request(node, route, case, headers, query):
    """Status and code of the answer; of a stream only what it begins with."""
    body = json.loads(json.dumps(route.body).replace('"USER"', json.dumps(case.user))) if route.body is not None else None
    path = route.path.replace("{id}", case.id).replace("{user_id}", case.user).replace("{file}", "carillon.js")
    if route.kind == "socket":
        headers = {**headers, **UPGRADE}
    options = {"headers": headers, "params": {**route.query, **query}, **({} if body is None else {"json": body})}
    with node.http.stream(route.method, node.url + path, **options) as answer:
        # Redeeming a ticket sets a cookie, which would be sent from then on.
        node.http.cookies.clear()
        if answer.status_code == 101 or answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, None
        answer.read()
    if answer.status_code < 400:
        return answer.status_code, None
    return answer.status_code, answer.json()["code"].removeprefix("notifications_m.")


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_every_credential_on(cluster, node, route):
    user, other = (f"authorization-{uuid.uuid4().hex[:12]}" for _ in range(2))
    columns = [*credentials(), *(credentials_of_public_keys() if isinstance(node, PublicKeyNode) else ())]
    # One for each cell, since some of them delete theirs; and all at once, for the sake of time.
    wrong = {}
    for credential in columns:
        made = UNKNOWN
        if route.owned:
            body = {"title": "Hello", "user_ids": [user], "customer_id": route.customer}
            made = cluster.publish(**body).json()["notifications"][0]["id"]
        case = Case(user, other, made)
        headers, query = credential.make(node, case)
        status, code = request(node, route, case, headers, query)
        should_status, should_code = expected(route, credential)
        # Where all is well a 404 may still say that the id is not known.
        if status != should_status or (should_code is not None and code != should_code):
            wrong[credential.name] = f"{status} {code}, not {should_status} {should_code or ''}"
        elif should_code is None and status in (401, 403):
            wrong[credential.name] = f"{status} {code}"
    assert wrong == {}


def test_no_route_is_missing(cluster):
    paths = cluster.http.get(f"{cluster.url}/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item if method in ("get", "put", "post", "patch", "delete")}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_no_cell_is_missing():
    kinds = {credential.kind for credential in (*credentials(), *credentials_of_public_keys())}
    for name, row in ANSWERS.items():
        assert kinds - set(row) == set(), name
    assert {route.kind for route in ROUTES} == set(ANSWERS)


def test_no_credential_is_written_to_the_log(node):
    text = node.text()
    assert "node started" in text
    for secret in (SECRET, PUBLIC.splitlines()[1], "ck_", "ct_", "cs_", "eyJ"):
        assert secret not in text, secret
