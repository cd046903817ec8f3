"""Limits of the transports: those who ask for too much, say too little or name nobody take nothing from the others."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import socketio.exceptions

from harness import PATIENCE, eventually, free_port, problem, redis, tolerant
from test_transports import Session, metric, names, open_streams, status_of
from transports import Poll, SocketIO, SocketIOPolling, SocketIOWebSocket, WebSocket

ROOT = Path(__file__).resolve().parents[2]


def test_refused_namespaces_are_counted_like_refused_tokens(cluster, user):
    session = Session(cluster)
    session.say("\x1e".join(f"40/{number}," for number in range(200)))
    packets = []
    while not packets or packets[-1] != "1":
        packets += session.packets()
    assert 1 <= len([packet for packet in packets if packet.startswith("44/")]) < 10
    # Also of one that has a stream, which then gives its place back.
    session = Session(cluster)
    session.connect(user)
    session.say("\x1e".join(f"40/{number}," for number in range(200)))
    eventually("its place is free", lambda: not open_streams(cluster, user))


def test_sessions_that_say_nothing_shut_out_nobody(cluster, user):
    """More than a node holds of them: the oldest goes, and one who says who he is comes in."""
    parts = urllib.parse.urlsplit(cluster.edges[0])
    handshake = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection, connection.makefile("rb") as stream:
        for _ in range(45):
            connection.sendall(handshake * 50)
            statuses = []
            for _ in range(50):
                statuses.append(stream.readline().split()[1])
                length = 0
                while line := stream.readline().strip():
                    name, _, value = line.partition(b": ")
                    if name.lower() == b"content-length":
                        length = int(value)
                stream.read(length)
            assert set(statuses) == {b"200"}
        assert metric(cluster, "carillon_socketio_sessions") <= 2100
        for kind in (SocketIO, SocketIOWebSocket, SocketIOPolling):
            with kind(user, cluster.edges[0]) as client:
                client.ready()
                cluster.notify(user)
                client.expect("notification")


@pytest.mark.parametrize("mode", ["navigate", "Navigate"])
def test_a_ticket_in_a_link_makes_no_cookie(cluster, user, mode):
    """A stranger's page could have its visitors become whoever it wants."""

    def cookie(**headers):
        ticket = user.write("POST", "/stream-ticket")["ticket"]
        url = urllib.parse.urlsplit(cluster.url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
        connection.request("GET", f"/v1/notifications/sse?ticket={ticket}", headers=headers)
        try:
            return connection.getresponse().getheader("Set-Cookie")
        finally:
            connection.close()

    assert "HttpOnly" in cookie()
    assert "HttpOnly" in cookie(**{"Sec-Fetch-Mode": "cors"})
    assert cookie(**{"Sec-Fetch-Mode": mode}) is None


def test_evictions_that_are_long_past_are_forgotten(cluster, user):
    key = f"carillon:{{{user.name}}}:e"
    redis("HSET", key, *[word for number in range(40) for word in (f"old{number}", f"1 {1000 + number}")], "young", "1 99999999999999")
    streams = []
    try:
        for _ in range(11):
            streams.append(user.stream())
            streams[-1].ready()
        streams[0].until("it is evicted", lambda event: event.name == "close")
        eventually("the new one is remembered, the old ones are not", lambda: redis("HLEN", key) == "2")
        assert redis("HEXISTS", key, "young") == "1"
        # However many come within the time: no more than a few hundred.
        redis("HSET", key, *[word for number in range(300) for word in (f"more{number}", "1 99999999999999")])
        streams.append(user.stream())
        streams[-1].ready()
        streams[1].until("it is evicted", lambda event: event.name == "close")
        eventually("the new one, too", lambda: redis("HLEN", key) == "302")
    finally:
        for stream in streams:
            stream.close()


# --- Refusing instead of evicting ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusing(cluster, tmp_path_factory):
    """An edge of the cluster that refuses those who are over their limit."""
    port = free_port()
    secrets = Path(cluster.place[1]) / "secrets"
    environment = {
        "PATH": os.environ["PATH"], "CARILLON_DATABASE_URL": cluster.database_url, "CARILLON_REDIS_URL": os.environ["CARILLON_REDIS_URL"],
        "CARILLON_NODE_NAME": "refusing-1", "CARILLON_DRAIN_SECONDS": "0", "CARILLON_JWT_SECRET_FILE": str(secrets / "jwt"),
        "CARILLON_SECRETS_KEY_FILE": str(secrets / "webhooks"), "CARILLON_CONNECTION_LIMIT": "2", "CARILLON_CONNECTION_LIMIT_MODE": "refuse",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with open(tmp_path_factory.mktemp("refusing") / "log", "w") as log:
        node = subprocess.Popen([os.environ["CARILLON_BIN"], "serve", "--roles", "edge", "--port", str(port)], env=environment, stdin=subprocess.DEVNULL, stderr=log)
        try:
            eventually("the node is ready", tolerant(lambda: cluster.http.get(f"{url}/health/ready").json()["status"] == "ready"))
            yield url
        finally:
            node.terminate()
            node.wait(PATIENCE)


KINDS = [WebSocket, SocketIO, SocketIOWebSocket, SocketIOPolling]


@pytest.mark.parametrize("kind", **names(KINDS))
def test_one_too_many_is_refused_and_told_so(cluster, user, refusing, kind):
    with user.stream(refusing) as stream, kind(user, refusing) as second:
        stream.ready()
        second.ready()
        # By each transport, and the two go on.
        answer = cluster.http.get(f"{refusing}/v1/notifications/sse", headers=user.bearer)
        problem(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "60"
        assert status_of(lambda: WebSocket(user, refusing)) == (429, "rate_limited")
        position = cluster.http.get(f"{refusing}/v1/notifications/poll", headers=user.bearer).json()["last_event_id"]
        problem(cluster.http.get(f"{refusing}/v1/notifications/poll", params={"after": position, "timeout": 5}, headers=user.bearer), 429, "rate_limited")
        session = Session(cluster, refusing)
        session.say("40" + json.dumps({"token": user.token}))
        [packet] = session.packets()
        said = json.loads(packet.removeprefix("44"))
        assert said["data"] == {"code": "notifications_m.rate_limited", "status": 429}
        for too_many in (SocketIO, SocketIOWebSocket, SocketIOPolling):
            with pytest.raises(socketio.exceptions.ConnectionError):
                too_many(user, refusing)
        cluster.notify(user)
        stream.expect("message")
        second.expect("notification")
        # The one that was refused has its session still, and comes in once there is room.
        stream.close()
        eventually("a place is free", lambda: len(open_streams(cluster, user)) == 1)
        assert not session.connect(user)[0].startswith("44")
        session.say("41")


def test_a_poll_that_waits_counts(cluster, user, refusing):
    with user.stream(refusing) as stream, Poll(user, refusing) as poll:
        stream.ready()
        eventually("the poll waits", lambda: len(open_streams(cluster, user)) == 2)
        assert status_of(lambda: WebSocket(user, refusing)) == (429, "rate_limited")
        cluster.notify(user)
        poll.expect("notification")


# --- Sessions behind the load balancer ------------------------------------------------------------------------------------


class Node:
    """Says which node it is."""

    def __init__(self, name):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


def test_the_load_balancer_finds_the_edge_of_a_session_whatever_its_name(cluster, tmp_path):
    """Names with dots, and names that others begin with."""
    nodes = {name: Node(name) for name in ("edge-1", "edge-1.eu", "edge-1.eu.west", "edge_2", "1")}
    template = (ROOT / "deploy/haproxy/haproxy.cfg.template").read_text()
    rule = 'use-server NAME if { urlp(sid),regsub([.][0-9a-z]*$,) -m str NAME }'
    assert rule in template, "the template says how it is done"
    port = free_port()
    values = {
        "BIND": f"127.0.0.1:{port}", "MAXCONN": "500", "STATS_SOCKET": str(tmp_path / "socket"),
        "CHECK_API": "".join(f"    server {name} 127.0.0.1:{node.port} check\n" for name, node in nodes.items()),
        "CHECK_EDGE": "".join(f"    server {name} 127.0.0.1:{node.port} check\n" for name, node in nodes.items()),
        "EDGE_REQUESTS": "".join(f"    server {name} 127.0.0.1:{node.port} track streams/{name}\n" for name, node in nodes.items()),
        "EDGE_SESSIONS": "".join(f"    server {name} 127.0.0.1:{node.port} track streams/{name} cookie {name}\n" for name, node in nodes.items()),
        "EDGE_OF_SESSION": "".join(f"    {rule.replace('NAME', name)}\n" for name in nodes),
    }  # fmt: skip
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    (tmp_path / "haproxy.cfg").write_text(template[template.index("\nglobal\n") :])
    balancer = subprocess.Popen([shutil.which("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually("it is ready", tolerant(lambda: cluster.http.get(f"http://127.0.0.1:{port}/balancer/ready").status_code == 200))
        for name in nodes:
            for _ in range(6):
                answer = cluster.http.get(f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling&sid={name}.0abc9xyz")
                assert answer.text == name
    finally:
        balancer.terminate()
        balancer.wait(PATIENCE)
        for node in nodes.values():
            node.server.shutdown()
