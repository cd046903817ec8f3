"""The cluster under test, its users, and a reader of event streams.

Nothing here waits without a bound: whatever is awaited has a deadline, and a message that says what it was.
"""

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass

import httpx

# Far above what the service promises, so that a busy machine fails no test; whoever waits this long waits in vain.
PATIENCE = 30.0


class TimedOut(AssertionError):
    """What was awaited did not come."""


def eventually(what, attempt, timeout=PATIENCE, pause=0.05):
    """Calls `attempt` until it answers something true, and answers that."""
    deadline = time.monotonic() + timeout
    idle = threading.Event()
    while True:
        value = attempt()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimedOut(f"after {timeout:g} s still not: {what} (last answer: {value!r})")
        idle.wait(pause)


def free_port():
    """Below those that the system gives to outgoing connections: one of them could take it before the server that is to have it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        last = int(file.read().split()[0])
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10000, last if last >= 12000 else 32768)))
            return probe.getsockname()[1]


def redis(*arguments):
    """What redis-cli answers, of the cluster's Redis."""
    url = os.environ["CARILLON_REDIS_URL"]
    answer = subprocess.run(["redis-cli", "-u", url, "--no-auth-warning", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def tolerant(call):
    """Makes of `call` an attempt for `eventually`: a connection that fails is an attempt that failed."""

    def attempt():
        try:
            return call()
        except httpx.TransportError:
            return None

    return attempt


# --- Reading streams -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """What stood between two empty lines of a stream (WHATWG HTML, 9.2.6)."""

    name: str
    id: str | None
    data: str | None
    retry: int | None
    lines: tuple

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def seq(self):
        return int(self.id.split("-")[1])

    @property
    def epoch(self):
        return int(self.id.split("-")[0])

    @property
    def is_comment(self):
        return all(line.startswith(":") for line in self.lines)

    def __str__(self):
        return f"{self.name} id={self.id} retry={self.retry} data={self.data}"


def parse_block(lines):
    name, identifier, data, retry = "message", None, [], None
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            identifier = value
        elif field == "data":
            data.append(value)
        elif field == "retry":
            retry = int(value)
        else:
            assert field == "", f"a line that is no field of an event stream: {line!r}"
    return Block(name, identifier, "\n".join(data) if data else None, retry, tuple(lines))


class Stream:
    """An open stream, read by a thread of its own. Blocks are handed out in order; comments are not."""

    def __init__(self, url, headers=None):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
        target = parts.path + ("?" + parts.query if parts.query else "")
        self._connection.putrequest("GET", target, skip_accept_encoding=True)
        for name, value in {"Accept": "text/event-stream", **(headers or {})}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self._socket = self._connection.sock
        response = self._connection.getresponse()
        self._socket.settimeout(None)
        self.status = response.status
        self.headers = httpx.Headers(response.getheaders())
        self.received = []
        self.comments = []
        self._next = 0
        self._over = False
        self._news = threading.Condition()
        self._response = response
        self._body = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest, lines = b"", []
        try:
            while part := self._response.read1(65536):
                self._body += part if self.status != 200 else b""
                rest += part
                while b"\n" in rest:
                    line, _, rest = rest.partition(b"\n")
                    assert b"\r" not in line and b"\0" not in line, f"CR or NUL on the stream: {line!r}"
                    if line:
                        lines.append(line.decode())
                    elif lines:
                        self._add(parse_block(lines))
                        lines = []
        except (OSError, http.client.HTTPException, ValueError):
            pass
        except AssertionError as error:
            self._add(Block("broken", None, str(error), None, ()))
        finally:
            with self._news:
                self._over = True
                self._news.notify_all()
            self._response.close()

    def _add(self, block):
        with self._news:
            (self.comments if block.lines and block.is_comment else self.received).append(block)
            self._news.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self._socket.shutdown(2)
        except OSError:
            pass
        self._socket.close()

    def _story(self):
        return "; ".join(str(block) for block in self.received[-12:]) or "nothing"

    def next(self, what="another event", timeout=PATIENCE):
        """The next block, whichever it is."""
        deadline = time.monotonic() + timeout
        with self._news:
            while self._next >= len(self.received):
                left = deadline - time.monotonic()
                if self._over:
                    raise AssertionError(f"the stream ended before: {what}. It showed {self._story()}")
                if left <= 0:
                    raise TimedOut(f"after {timeout:g} s the stream has not shown: {what}. It showed {self._story()}")
                self._news.wait(left)
            block = self.received[self._next]
            self._next += 1
            return block

    def expect(self, name, timeout=PATIENCE):
        """The next block, which must have that name."""
        block = self.next(f"an event {name}", timeout)
        assert block.name == name, f"not {name} but {block}. The stream showed {self._story()}"
        return block

    def until(self, what, matches, timeout=PATIENCE):
        """All blocks up to the first that matches."""
        deadline = time.monotonic() + timeout
        blocks = []
        while True:
            blocks.append(self.next(what, max(0.001, deadline - time.monotonic())))
            if matches(blocks[-1]):
                return blocks

    def ready(self):
        assert self.status == 200, f"the stream was answered with {self.status}: {self.error()}"
        return self.expect("ready")

    def end(self, timeout=PATIENCE):
        """Waits for the end; what came before it and was not asked for yet is answered."""
        with self._news:
            if not self._news.wait_for(lambda: self._over, timeout):
                raise TimedOut(f"after {timeout:g} s the stream is still open. It showed {self._story()}")
            blocks = self.received[self._next :]
            self._next = len(self.received)
            return blocks

    def error(self):
        """The body of an answer that is no stream."""
        self.end()
        return json.loads(self._body) if self._body else None

    @property
    def is_over(self):
        with self._news:
            return self._over

    @property
    def last_id(self):
        """What EventSource would send on its next reconnect."""
        with self._news:
            return next((block.id for block in reversed(self.received) if block.id is not None), "")


# --- The cluster ---------------------------------------------------------------------------------------------------------


class Cluster:
    def __init__(self):
        self.url = os.environ["CARILLON_URL"]
        self.apis = os.environ["CARILLON_API_URLS"].split()
        self.edges = os.environ["CARILLON_EDGE_URLS"].split()
        self.api_key = os.environ["CARILLON_API_KEY"]
        self.database_url = os.environ["CARILLON_DATABASE_URL"]
        self._local = os.environ["CARILLON_LOCAL"]
        self._state = os.environ["CARILLON_LOCAL_STATE"]
        self.http = httpx.Client(trust_env=False, timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))
        self.application = {"Authorization": f"Bearer {self.api_key}"}
        self._run = uuid.uuid4().hex[:8]
        self._pool = iter(())
        self._pools = itertools.count()

    @property
    def place(self):
        """The command `deploy/local`, and the state folder of this cluster."""
        return self._local, self._state

    def local(self, *arguments, check=True):
        verb, *rest = arguments
        result = subprocess.run(
            [self._local, verb, "--state", self._state, *rest], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180
        )
        assert not check or result.returncode == 0, f"deploy/local {' '.join(arguments)}: {result.stderr or result.stdout}"
        return result

    def token(self, user, *options):
        return self.local("token", *options, "--", user).stdout.strip()

    def fresh_user(self):
        """One that nobody has heard of yet. Tokens are minted by the hundred: each minting starts a program."""
        pair = next(self._pool, None)
        if pair is None:
            base = f"conf-{self._run}-{next(self._pools)}-"
            tokens = self.local("token", base, "--count", "200").stdout.split()
            self._pool = iter([(f"{base}{number}", token) for number, token in enumerate(tokens)])
            pair = next(self._pool)
        return User(self, *pair)

    def user(self, name, *options):
        return User(self, name, self.token(name, *options))

    def unique(self, suffix=""):
        return f"conf-{self._run}-{uuid.uuid4().hex[:8]}{suffix}"

    def publish(self, raw=None, /, *, url=None, headers=None, **fields):
        """POST /v1/internal/notify with these fields, or with these very bytes, whatever comes of it."""
        content = json.dumps(fields).encode() if raw is None else raw
        return self.http.post(
            f"{url or self.url}/v1/internal/notify",
            content=content,
            headers={"Content-Type": "application/json", **(self.application if headers is None else headers)},
        )

    def notify(self, users, url=None, **fields):
        """POST /v1/internal/notify, which must succeed. Answers what it made: one entry for one user, else a list."""
        many = not isinstance(users, User)
        names = [user.name for user in users] if many else [users.name]
        answer = self.publish(url=url, **{"title": "Hello", "user_ids": names, **fields})
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        made = answer.json()["notifications"]
        return made if many else made[0]

    def is_whole(self):
        return self.local("status", check=False).returncode == 0

    def make_whole(self):
        """Starts what does not run, and waits until every node works with all the others."""

        def attempt():
            lines = self.local("status", check=False).stdout.splitlines()[1:]
            stopped = {line.split()[0] for line in lines if line.split()[3] == "stopped"}
            # The servers first: nodes that start without them wait. One that cannot start yet is started again.
            for name in sorted(stopped, key=lambda name: (name not in ("postgres", "redis"), name)):
                self.local("start", name, check=False)
            return self.is_whole()

        eventually("the whole cluster is ready", attempt, timeout=90, pause=0.3)
        eventually("every node has both of its servers", tolerant(self.has_both_servers), timeout=60)
        for url in self.apis:
            eventually(f"{url} writes again", tolerant(lambda url=url: self.can_write(url)), timeout=60)

    def has_both_servers(self, *, server=("postgres", "redis")):
        """A node that lacks one of them is ready all the same, since it does what it can."""
        answers = [self.http.get(f"{node}/health/ready").json() for node in (*self.apis, *self.edges)]
        return all(answer[name] for answer in answers for name in server)

    def can_write(self, url):
        """For so many users that each of a node's connections to Postgres is needed."""
        users = [f"conf-{self._run}-probe-{number}" for number in range(64)]
        return self.publish(url=url, title="Probe", user_ids=users).status_code == 201


class User:
    """A signed-in user. Paths are below /v1/notifications."""

    def __init__(self, cluster, name, token):
        self.cluster = cluster
        self.name = name
        self.token = token
        self.bearer = {"Authorization": f"Bearer {token}"}

    def request(self, method, path="", *, base=None, headers=None, **options):
        return self.cluster.http.request(
            method, f"{base or self.cluster.url}/v1/notifications{path}", headers={**self.bearer, **(headers or {})}, **options
        )

    def get(self, path="", **options):
        """A GET that must succeed; answers its JSON."""
        answer = self.request("GET", path, **options)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def write(self, method, path, body=None, **options):
        """A write that must succeed; answers its JSON."""
        answer = self.request(method, path, **({} if body is None else {"json": body}), **options)
        assert answer.status_code in (200, 204), f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.status_code == 200 else None

    def list(self, **parameters):
        return self.get("", params=parameters)

    def ids(self, **parameters):
        return [item["id"] for item in self.list(**parameters)["data"]]

    def count(self, **parameters):
        return self.get("/count", params=parameters)

    def stream(self, base=None, *, last_event_id=None, headers=None, path="/v1/notifications/sse", **query):
        """Opens the stream. `last_event_id` goes into the header, as EventSource's own reconnect has it."""
        resume = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        url = (base or self.cluster.url) + path + ("?" + urllib.parse.urlencode(query) if query else "")
        return Stream(url, {**self.bearer, **resume, **(headers or {})})


def problem(answer, status, code):
    """Checks an error answer (RFC 9457) and hands out its body."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}, not {status} {code}"
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    body = answer.json()
    assert body["code"] == f"notifications_m.{code}", body
    assert body["status"] == status
    assert body["type"] and body["title"] and body["detail"] and body["instance"], body
    return body
