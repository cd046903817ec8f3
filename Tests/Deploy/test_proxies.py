"""HAProxy and nginx for real, made from the shipped templates, with streams through them: over TLS and HTTP/2, and over plain HTTP/1.1."""

import base64
import contextlib
import datetime
import os
import re
import shutil
import signal
import socket
import ssl
import tempfile

import httpx
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from carillon import PATIENCE, Stream, bearer
from places import DEPLOY, run
from servers import Program, World, free_port, until


def certificate(folder):
    """For 127.0.0.1, signed by itself: the paths of the certificate, its key, and both in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    texts = [
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())]  # fmt: skip
    paths = [os.path.join(folder, name) for name in ("cert.pem", "key.pem", "both.pem")]
    for path, text in zip(paths, [*texts, b"".join(texts)], strict=True):
        with open(path, "wb") as file:
            file.write(text)
    return paths


class Proxy(Program):
    def __init__(self, kind, world, folder, silence=None):
        super().__init__(kind, folder)
        self.kind, self.world, self.silence = kind, world, silence
        self.plain, self.tls = free_port(), free_port()
        self.url, self.secure = f"http://127.0.0.1:{self.plain}", f"https://localhost:{self.tls}"
        self.certificate, self.key, self.both = certificate(folder)
        self.access = os.path.join(folder, "access.log")
        self.configuration = os.path.join(folder, kind + ".conf")
        self.write()
        self.spawn(
            ["haproxy", "-W", "-db", "-f", self.configuration] if kind == "haproxy" else ["nginx", "-c", self.configuration, "-e", "stderr"])
        until(lambda: self.get("/v1/notifications").status_code == 401, f"{kind} to serve")

    def write(self):
        nodes = [word for node in [*self.world.apis, *self.world.edges] for word in (f"--{node.role}", f"{node.name}=127.0.0.1:{node.port}")]
        tls = f"127.0.0.1:{self.tls} ssl crt {self.both} alpn h2,http/1.1" if self.kind == "haproxy" else f"127.0.0.1:{self.tls} ssl http2"
        # The socket's path must be short.
        own = (
            ["--maxconn", "500", "--stats", os.path.join(self.folder, "s")] if self.kind == "haproxy"
            else ["--certificate", self.certificate, "--key", self.key, "--log", self.access])  # fmt: skip
        text = run(DEPLOY / "render-proxy", self.kind, "--bind", f"127.0.0.1:{self.plain}", "--bind", tls, *nodes, *own)
        assert not re.search("@[A-Z_]+@", text)
        if self.silence:
            # Nobody waits for a minute and a half here.
            assert text.count(" 90s") >= 3
            text = text.replace(" 90s", f" {self.silence}")
        if self.kind == "nginx":
            # What is around it on a real machine.
            places = "".join(f"{name}_temp_path {self.folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            user = "user root;" if os.geteuid() == 0 else ""
            text = f"daemon off; {user} worker_processes 1; pid {self.folder}/pid; events {{ worker_connections 1000; }}\nhttp {{ {places}\n{text}\n}}\n"
        with open(self.configuration, "w") as file:
            file.write(text)
        run(*(["haproxy", "-c", "-f"] if self.kind == "haproxy" else ["nginx", "-e", "stderr", "-t", "-c"]), self.configuration)

    def reload(self):
        """New processes take over; the old ones keep what is open."""
        before = set(self.workers())
        self.signal(signal.SIGUSR2 if self.kind == "haproxy" else signal.SIGHUP)
        until(lambda: set(self.workers()) - before, "new workers")
        until(lambda: self.get("/v1/notifications").status_code == 401, "the new workers to serve")

    def workers(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def end(self):
        # The master takes its workers along.
        if self.is_running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(Exception):
                self.wait(10)
        super().end()

    def get(self, path, **more):
        return requests.get(self.url + path, timeout=PATIENCE, **more)

    def client(self):
        """Speaks HTTP/2 and believes the certificate."""
        return httpx.Client(http2=True, verify=ssl.create_default_context(cafile=self.certificate), timeout=PATIENCE, base_url=self.secure)


@pytest.fixture(scope="module")
def world():
    settings = {"CARILLON_PING_SECONDS": "1"}
    with World(apis=2, edges=2, settings=settings) as world:
        world.key = world.carillon("apikey", "create", "--name", "all", "--scopes", "notify,direct")
        yield world


KINDS = ["haproxy", "nginx"]


@contextlib.contextmanager
def running(kind, world, silence=None):
    world.wait_until_whole()
    folder = tempfile.mkdtemp(prefix="cp-")
    made = None
    try:
        made = Proxy(kind, world, folder, silence)
        yield made
    finally:
        if made is not None:
            made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=KINDS)
def proxy(request, world):
    with running(request.param, world) as made:
        yield made


def lines(response):
    """A stream's blocks, as they come."""
    block = []
    for line in response.iter_lines():
        if line:
            block.append(line)
        elif block:
            yield block
            block = []


def test_streams_over_http2_are_not_buffered(proxy, world):
    user = world.user()
    with proxy.client() as client, client.stream("GET", "/v1/notifications/sse", headers=bearer(world.token(user))) as response:
        assert (response.http_version, response.status_code) == ("HTTP/2", 200)
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = lines(response)
        assert any("event: ready" in block for block in (next(blocks), next(blocks)))
        for number in range(3):
            # Each comes before the next is sent.
            made = world.notify(user, title=f"number {number}")
            block = next(found for found in blocks if any(line.startswith("data:") for line in found))
            assert made["id"] in "".join(block)
        # Small and alone, yet sent on: the comment that keeps a silent stream alive.
        assert next(found for found in blocks if found[0].startswith(":"))


@pytest.mark.parametrize("kind", KINDS)
def test_pings_outlive_the_time_out_and_an_edge_that_hangs_does_not(kind, world):
    """Edges ping every second here, and silence may last for six."""
    with running(kind, world, silence="6s") as proxy, proxy.client() as client:
        with client.stream("GET", "/v1/notifications/sse", headers=bearer(world.token(world.user()))) as response:
            blocks = lines(response)
            for _ in range(9):
                assert next(block for block in blocks if block[0].startswith(":"))
            for edge in world.edges:
                edge.pause()
            try:
                with contextlib.suppress(httpx.RemoteProtocolError):
                    assert list(blocks) == []
            finally:
                for edge in world.edges:
                    edge.resume()


def test_many_streams_share_one_http2_connection(proxy, world):
    with proxy.client() as client, contextlib.ExitStack() as opened:
        users = [world.user() for _ in range(8)]
        streams = [lines(opened.enter_context(client.stream("GET", "/v1/notifications/sse", headers=bearer(world.token(user))))) for user in users]
        for stream in streams:
            assert any("event: ready" in block for block in (next(stream), next(stream)))
        for user, stream in zip(users, streams, strict=True):
            made = world.notify(user)
            assert made["id"] in "".join(next(block for block in stream if any(line.startswith("data:") for line in block)))


def test_a_reload_loses_no_event_of_a_stream_that_is_open(proxy, world):
    user = world.user()
    with Stream(world.token(user), proxy.url) as stream:
        stream.expect("ready")
        sent = [world.notify(user)["id"]]
        for _ in range(2):
            proxy.write()
            proxy.reload()
            sent.append(world.notify(user)["id"])
        assert [stream.expect("message").data["id"] for _ in sent] == sent
        with Stream(world.token(user), proxy.url, last=stream.last) as other:
            assert other.expect("ready").id == stream.last


def test_streams_go_to_edges_and_all_else_to_the_api(proxy, world):
    user = world.user()
    with Stream(world.token(user), proxy.url) as stream:
        stream.expect("ready")
        for prefix in ("/v1", "/api/v1", "/api"):
            direct = requests.post(
                proxy.url + prefix + "/notifications/sse", headers=bearer(world.key), json={"title": "direct", "user_ids": [user]}, timeout=PATIENCE)
            assert direct.status_code == 200, direct.text
            assert stream.expect("message").data["title"] == "direct"
            assert proxy.get(prefix + "/notifications", headers=bearer(world.token(user))).status_code == 200
        ticket = requests.post(proxy.url + "/v1/notifications/stream-ticket", headers=bearer(world.token(user)), timeout=PATIENCE)
        assert ticket.status_code == 200
        polled = proxy.get("/v1/notifications/poll?timeout=0&after=" + stream.last, headers=bearer(world.token(user)))
        assert polled.status_code == 200 and polled.json()["events"] == []


def test_a_websocket_passes(proxy, world):
    with socket.create_connection(("127.0.0.1", proxy.plain), timeout=PATIENCE) as connection:
        words = [
            "GET /v1/notifications/ws HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: " + base64.b64encode(b"0123456789abcdef").decode(), "Authorization: Bearer " + world.token(world.user())]  # fmt: skip
        connection.sendall(("\r\n".join(words) + "\r\n\r\n").encode())
        received = b""
        while b'"ready"' not in received:
            part = connection.recv(4096)
            assert part, received
            received += part
        assert received.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("path", ["/metrics", "/health/ready", "/health/live", "//metrics", "/health"])
def test_what_is_the_operators_is_refused(proxy, path):
    answer = proxy.get(path)
    assert answer.status_code == 404 and answer.json()["code"] == "notifications_m.not_found"


def test_a_request_id_is_passed_on_or_made(proxy):
    assert proxy.get("/v1/notifications", headers={"X-Request-Id": "mine-7"}).headers["x-request-id"] == "mine-7"
    made = {proxy.get("/v1/notifications").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2 and all(len(text) >= 32 for text in made)


def test_its_own_errors_send_streams_away_kindly_and_tell_others_the_truth(proxy, world):
    token = world.token(world.user())
    nodes = [*world.apis, *world.edges]
    with contextlib.ExitStack() as stopped:
        for node in nodes:
            stopped.callback(node.start)
            node.kill()

        def sent_away():
            with Stream(token, proxy.url) as stream:
                return stream.status == 200 and stream.expect("close").data == {"reason": "draining"} and 500 <= stream.retry <= 2500

        until(sent_away, "the proxy's own answer to a stream")
        for path in ("/v1/notifications", "/v1/notifications/poll?timeout=0"):
            answer = proxy.get(path, headers=bearer(token))
            assert answer.status_code == 503 and answer.json()["code"] == "notifications_m.unavailable", answer.text
            assert answer.headers["retry-after"] == "1" and answer.headers["content-type"] == "application/problem+json"
        direct = requests.post(proxy.url + "/v1/notifications/sse", headers=bearer(world.key), json={"title": "x", "user_ids": ["u"]}, timeout=PATIENCE)
        assert direct.status_code == 503
    world.wait_until_whole()

    def served():
        with Stream(token, proxy.url) as stream:
            event = stream.next()
            return event is not None and event.name == "ready"

    until(served, "a stream by way of the proxy again")
    until(lambda: proxy.get("/v1/notifications", headers=bearer(token)).status_code == 200, "the API again")


def test_one_dead_node_of_two_is_not_noticed(proxy, world):
    token = world.token(world.user())
    dead = world.apis[0]
    dead.kill()
    try:
        assert {proxy.get("/v1/notifications", headers=bearer(token)).status_code for _ in range(6)} == {200}
    finally:
        dead.start()


def test_no_ticket_and_no_token_is_in_its_log(proxy, world):
    proxy.get("/v1/notifications/sse?ticket=a-secret-ticket", stream=True).close()
    proxy.get("/v1/unsubscribe/a-secret-token")
    assert requests.post(proxy.url + "/v1/unsubscribe/a-secret-token", timeout=PATIENCE).status_code >= 400
    proxy.end()
    text = proxy.tail(1000)
    if os.path.exists(proxy.access):
        with open(proxy.access) as file:
            text += file.read()
    assert "a-secret" not in text


def test_the_configuration_of_the_containers_is_up_to_date():
    nodes = [word for name in ("api-1", "api-2") for word in ("--api", f"{name}={name}:8080")]
    nodes += [word for name in ("edge-1", "edge-2") for word in ("--edge", f"{name}={name}:8080")]
    text = run(
        DEPLOY / "render-proxy", "haproxy", "--bind", "*:8080", *nodes, "--stats", "/tmp/haproxy.sock", "--resolver", "127.0.0.11:53")
    assert (DEPLOY / "haproxy/compose.cfg").read_text() == text
    run("haproxy", "-c", "-f", DEPLOY / "haproxy/compose.cfg")
