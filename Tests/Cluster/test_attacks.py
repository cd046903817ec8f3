"""One node under attack by those who have no credential, and by some who have: it stays up, serves the others, holds no more than it says, and counts what it refused."""

import contextlib
import gzip
import json
import os
import select
import socket
import struct
import threading
import time
import zlib

import pytest
import requests

from carillon import PATIENCE, bearer, problem
from servers import Node, World, free_port, until

# Of the node under attack; those that are shipped are longer.
HEAD, BODY, IDLE = 1, 5, 60
HELD = 16 << 20
HALF_OPEN = 10_000


@pytest.fixture(scope="module")
def world():
    settings = {
        "CARILLON_HEAD_SECONDS": str(HEAD), "CARILLON_BODY_SECONDS": str(BODY), "CARILLON_IDLE_SECONDS": str(IDLE), "CARILLON_HELD_BODY_BYTES": str(HELD),
        "CARILLON_SECRETS_KEY": "k" * 32, "CARILLON_RATE_LIMIT_USER": "off",
    }  # fmt: skip
    with World(apis=0, edges=0, settings=settings) as world:
        node = world._keep(Node(world, "all-1", "all", {}))
        world.apis = world.edges = [node]
        world.wait_until_whole()
        yield world


@pytest.fixture
def node(world):
    return world.apis[0]


@pytest.fixture(autouse=True)
def served(world):
    """Whatever a test does, the node is the same one after it, gives back what it held, and serves."""
    node = world.apis[0]
    pid = node.pid
    yield
    with Legitimate(world) as legitimate:
        legitimate.is_served()
    assert node.pid == pid and node.is_running
    until(lambda: node.metrics()["carillon_http_body_bytes"] == 0, "bodies to be given back")


class Legitimate:
    """A user with a stream, who is sent a notification. A stream that is told to come back does so, as an EventSource."""

    def __init__(self, world):
        self.world, self.user = world, world.user()
        self.stream = until(self._open, "a stream")

    def _open(self):
        stream = self.world.stream(self.user)
        assert stream.status == 200
        event = stream.next()
        if event is not None and event.name == "ready":
            return stream
        stream.close()
        return None

    def is_served(self):
        made = self.world.notify(self.user)
        assert self.stream.expect("message").data["id"] == made["id"]
        assert self.world.get(self.user, "/count")["unread"] >= 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()


def connect(node):
    return socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE)


def to_end(connection):
    """All that comes until the node closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def exchange(node, raw):
    with connect(node) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
        return to_end(connection)


def counted(node, status):
    return sum(value for name, value in node.metrics().items() if name.startswith("carillon_http_requests_total{") and f'status="{status}"' in name)


def request(method="POST", path="/v1/internal/notify", headers="", body=b""):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + body


# --- Slowness ------------------------------------------------------------------------------------------------------------


# What never goes on, and by what name it is counted.
SLOW = {
    "half a head": (b"GET /v1/notifications HTTP/1.1\r\nHost: x\r\nX-", "other"), "one byte": (b"G", "other"),
    "half a body": (request(headers="Content-Length: 1000\r\n", body=b'{"title":'), "/v1/internal/notify"),
    "half a chunked body": (request(headers="Transfer-Encoding: chunked\r\n", body=b'5\r\n{"tit\r\n'), "/v1/internal/notify"),
    "half a body of another route": (request("PUT", "/v1/notifications/preferences", "Content-Length: 10\r\n", b"{"), "other"),
}  # fmt: skip


def test_what_comes_too_slowly_is_cut_and_counted(node):
    before = node.metrics()
    with contextlib.ExitStack() as stack:
        connections = {name: stack.enter_context(connect(node)) for name in SLOW}
        for name, connection in connections.items():
            connection.sendall(SLOW[name][0])
        for name, connection in connections.items():
            answer = to_end(connection)
            assert answer.startswith(b"HTTP/1.1 408 ") and b"notifications_m.request_timeout" in answer and b"connection: close" in answer, (name, answer)
    after = node.metrics()
    for route, count in (("other", 3), ("/v1/internal/notify", 2)):
        names = [name for name in after if name.startswith("carillon_http_requests_total{") and f'route="{route}"' in name and 'status="408"' in name]
        assert sum(after[name] - before.get(name, 0) for name in names) == count, route


def test_a_byte_at_a_time_earns_no_time(node):
    """Time is counted from the first byte, whatever comes after it."""
    answers = []
    with connect(node) as head, connect(node) as body:
        body.sendall(request(headers="Content-Length: 100000\r\n"))
        open_ones = {head: b"GET / HTTP/1.1\r\nHost: x\r\nX: ", body: b""}
        while open_ones:
            for connection in list(open_ones):
                rest = open_ones[connection]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(rest[:1] or b"x")
                open_ones[connection] = rest[1:]
                if select.select([connection], [], [], 0.05)[0]:
                    del open_ones[connection]
                    answers.append(connection.recv(65536))
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers) and len(answers) == 2, answers


# --- Many ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def crowd(node, count, send=b""):
    connections = []
    try:
        for _ in range(count):
            connection = connect(node)
            connections.append(connection)
            if send:
                connection.sendall(send)
        yield connections
    finally:
        for connection in connections:
            # Reset, so that no port of this machine waits for its end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def test_many_half_heads_are_cut_together_and_hold_no_more_than_their_bytes(world, node):
    count, size = 2000, 15_000
    before, cut = node.memory(), counted(node, 408)
    with crowd(node, count, request("GET", "/", "X: " + "x" * size)[:-4]) as connections:
        with Legitimate(world) as late:
            late.is_served()
        for connection in connections:
            connection.recv(65536)
        grown = node.memory() - before
        print(f"{count} half heads of {size} bytes: {grown / count:.0f} bytes each")
        assert grown < count * size * 4
    assert counted(node, 408) == cut + count


def test_ten_thousand_that_connect_and_say_nothing_keep_out_nobody(world, node):
    before = node.memory()
    with Legitimate(world) as settled:
        settled.is_served()
        with crowd(node, HALF_OPEN):
            until(lambda: node.metrics()["carillon_http_connections"] >= HALF_OPEN, "all of them to be there")
            settled.is_served()
            with Legitimate(world) as late:
                late.is_served()
            grown = node.memory() - before
            # Some 5 KB each; a bound that a leak of a buffer each would break.
            assert grown < HALF_OPEN * 16_384, f"{grown / HALF_OPEN:.0f} bytes each"
            print(f"{HALF_OPEN} connections that say nothing: {grown / HALF_OPEN:.0f} bytes each")
    until(lambda: node.metrics()["carillon_http_connections"] < 100, "them to be gone")


def test_bodies_that_do_not_end_hold_no_more_than_the_bound_and_leave_room_for_others(world, node):
    """Strangers' first bytes count, too: half of each account is theirs."""
    memory, refused = node.memory(), node.metrics()["carillon_http_bodies_refused_total"]
    part = request(headers="Authorization: Bearer x\r\nContent-Length: 1000000\r\n", body=b"x" * 16_000)
    with crowd(node, 1500, part):
        # 4 MiB of first bytes and 8 MiB of the others'; the rest is told to come again.
        until(lambda: node.metrics()["carillon_http_bodies_refused_total"] > refused, "some to be refused")
        held = node.metrics()["carillon_http_body_bytes"]
        assert held <= HELD // 4 + HELD // 2, held
        with Legitimate(world) as late:
            late.is_served()
        # Their large one has room as well.
        big = json.dumps({"title": "x", "content": "y" * 4000, "user_ids": [f"u{number:0100}" for number in range(400)]})
        assert requests.post(node.url + "/v1/internal/notify", headers=bearer(world.key), data=big, timeout=PATIENCE).status_code == 201
        assert node.memory() - memory < 128 << 20, f"{(node.memory() - memory) >> 20} MiB"


# --- Too large -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw, status",
    [
        (request("GET", "/", "X: " + "x" * 1_000_000 + "\r\n"), 431), (request("GET", "/", "".join(f"X-{number}: y\r\n" for number in range(50_000))), 431),
        (request("GET", "/" + "x" * 100_000), 431), (request("GET", "/", "Cookie: " + "a=b; " * 20_000 + "\r\n"), 431),
        (request(headers="Content-Length: 5000000\r\n"), 413), (request(headers="Content-Length: 99999999999999999999\r\n"), 400),
        (request(headers="Transfer-Encoding: chunked\r\n", body=b"ffffffffffffffff1\r\n"), 400),
        (request("PUT", "/v1/notifications/preferences", "Transfer-Encoding: chunked\r\n", b"100000\r\n" + b"x" * 0x100000 + b"\r\n1\r\nx\r\n"), 413),
    ],
    ids=["one header", "many headers", "the path", "cookies", "a length", "a length past all", "a chunk past all", "chunks"],
)  # fmt: skip
def test_what_is_too_large_is_refused_and_counted(node, raw, status):
    before = counted(node, status)
    answer = exchange(node, raw)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 400 and answer.startswith(b"HTTP/1.1 413 ")), answer[:200]
    assert counted(node, status) == before + 1 or answer.startswith(b"HTTP/1.1 413 ")


def bomb(size):
    made = zlib.compressobj(9, wbits=31)
    return b"".join(made.compress(b" " * (1 << 20)) for _ in range(size >> 20)) + made.flush()


@pytest.mark.parametrize("path", ["/v1/internal/notify", "/v1/notifications/trigger", "/v1/notifications/preferences", "/v1/callbacks/twilio", "/socket.io/?EIO=4&transport=polling"])
def test_a_compression_bomb_is_refused_and_not_inflated(world, node, path):
    packed = bomb(256 << 20)
    assert len(packed) < 1 << 20
    before, memory = counted(node, 415), node.memory()
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip"):
        headers = bearer(world.key) | {"Content-Encoding": coding, "Content-Type": "application/x-ndjson" if "trigger" in path else "application/json"}
        answer = requests.post(node.url + path, data=packed, headers=headers, timeout=PATIENCE)
        problem(answer, 415, "unsupported_encoding")
        assert answer.headers["accept-encoding"] == "identity"
    assert counted(node, 415) == before + 6
    assert node.memory() - memory < 64 << 20
    # What says that it is not compressed is taken for what it is: no JSON.
    answer = requests.post(node.url + "/v1/internal/notify", data=gzip.compress(b"{}"), headers=bearer(world.key), timeout=PATIENCE)
    problem(answer, 400, "invalid_body")


def test_a_transfer_coding_that_is_not_known_is_refused_whatever_follows(node):
    for coding in ("gzip, chunked", "deflate", "chunked, chunked", "identity"):
        answer = exchange(node, request(headers=f"Transfer-Encoding: {coding}\r\n", body=b"3\r\nabc\r\n0\r\n\r\n"))
        assert answer[:13] in (b"HTTP/1.1 501 ", b"HTTP/1.1 400 ") and answer.count(b"x-request-id: ") == 1, answer


# --- Floods --------------------------------------------------------------------------------------------------------------


def flood(node, raw, seconds=0.5):
    """Sends it over and over and reads nothing, until the node takes no more of it. Answers how much it took."""
    sent = 0
    with connect(node) as connection:
        connection.setblocking(False)
        end = time.monotonic() + seconds
        while time.monotonic() < end and select.select([], [connection], [], 0.3)[1]:
            try:
                sent += connection.send(raw)
            except (BlockingIOError, ConnectionResetError, BrokenPipeError):
                break
    return sent


def test_pipelined_requests_whose_answers_are_not_read_are_not_taken_for_ever(world, node):
    memory = node.memory()
    raw = request("GET", "/openapi.json") * 2000
    with Legitimate(world) as late:
        for _ in range(10):
            assert flood(node, raw, 5) < 64 << 20
        late.is_served()
    assert node.memory() - memory < 64 << 20


def websocket(world, node, user=None, path="/v1/notifications/ws", credential=True):
    connection = connect(node)
    who = f"Authorization: Bearer {world.token(user or world.user())}\r\n" if credential else ""
    connection.sendall(
        request(
            "GET", path,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n{who}",
        )
    )  # fmt: skip
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        assert part, head
        head += part
    assert head.startswith(b"HTTP/1.1 101 ") and b"extensions" not in head.lower(), head
    return connection


def frame(first, payload=b"", length=None):
    size = len(payload) if length is None else length
    head = bytes([first, 0x80 | size]) if size < 126 else struct.pack("!BBH", first, 0xFE, size) if size < 65536 else struct.pack("!BBQ", first, 0xFF, size)
    return head + b"\0\0\0\0" + payload


def close_code(connection):
    """Of the frame that ends it; what came before is left aside."""
    rest = to_end(connection)
    at = rest.rfind(b"\x88")
    return struct.unpack("!H", rest[at + 2 : at + 4])[0] if at >= 0 else None


ATTACKS = {
    "a giant frame": (frame(0x81, b"x" * 100, 1 << 40), 1009), "a length past all": (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),
    "fragments past the bound": (frame(0x01, b"x" * 1000) + frame(0x00, b"x" * 1000) * 200, 1009), "a compressed one": (frame(0xC1, zlib.compress(b"x" * 10_000)), 1002),
    "a giant ping": (frame(0x89, b"x" * 126), 1002), "no mask": (b"\x81\x05hello", 1002),
}  # fmt: skip


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("path", ["/v1/notifications/ws", "/socket.io/?EIO=4&transport=websocket"], ids=["websocket", "socketio"])
def test_frames_that_must_not_be_end_their_connection(world, node, kind, path):
    raw, code = ATTACKS[kind]
    if kind == "fragments past the bound" and "socket.io" in path:
        raw = frame(0x01, b"4" * 1000) + frame(0x00, b"x" * 1000) * 200
    with websocket(world, node, path=path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
        assert close_code(connection) in (code, None), kind


def test_a_message_of_empty_fragments_without_end_and_a_flood_of_pings_hold_nothing(world, node):
    memory = node.memory()
    with websocket(world, node) as fragments, websocket(world, node) as pings:
        fragments.sendall(frame(0x01))
        for _ in range(50):
            fragments.sendall(frame(0x00) * 1000)
        pings.setblocking(False)
        sent = 0
        while select.select([], [pings], [], 0.5)[1] and sent < 4 << 20:
            # Their answers are not read.
            sent += pings.send(frame(0x89, b"x" * 100) * 100)
    assert node.memory() - memory < 64 << 20


def test_a_flood_of_sessions_and_packets_of_socket_io_is_bounded(world, node):
    memory = node.memory()
    session = requests.Session()
    for _ in range(20):
        for payload, statuses in (("\x1e".join(["4" + "x" * 10] * 5000), (200, 400)), ("4" * 70_000, (413,))):
            answer = session.get(node.url + "/socket.io/?EIO=4&transport=polling", timeout=PATIENCE)
            sid = json.loads(answer.text[1:])["sid"]
            answer = session.post(f"{node.url}/socket.io/?EIO=4&transport=polling&sid={sid}", data=payload, timeout=PATIENCE)
            assert answer.status_code in statuses, answer.text
    # More than there may be of those that do not say who they are.
    raw = request("GET", "/socket.io/?EIO=4&transport=polling")
    with connect(node) as connection:
        reader = threading.Thread(target=to_end, args=(connection,), daemon=True)
        reader.start()
        for _ in range(60):
            connection.sendall(raw * 50)
        connection.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE)
    assert node.metrics()["carillon_socketio_sessions"] <= 2100
    assert node.memory() - memory < 96 << 20


def test_polls_by_the_hundred_wait_for_one_user_and_hold_ten_places(world, node):
    user = world.user()
    position = world.get(user, "/poll")["last_event_id"]
    raw = request("GET", f"/v1/notifications/poll?after={position}&timeout=30", f"Authorization: Bearer {world.token(user)}\r\n")
    before = node.metrics()["carillon_streams_evicted_total"]

    def are_bounded():
        figures = node.metrics()
        return figures["carillon_streams_evicted_total"] >= before + 200 and figures['carillon_transport_connections{transport="poll"}'] <= 12

    with crowd(node, 300, raw):
        until(are_bounded, "those that are too many to be sent away")
    until(lambda: node.metrics()['carillon_transport_connections{transport="poll"}'] == 0, "their places to be free")


def test_a_form_that_twilio_never_sends_is_refused_before_it_is_sorted(node):
    problem(requests.post(node.url + "/v1/callbacks/twilio", data="a&" * 500_000, timeout=PATIENCE), 413, "too_large")
