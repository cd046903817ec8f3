"""The same events over WebSocket, Socket.IO and long-poll: the same order, resume, limits and ends as the stream's."""

import json
import socket
import struct
import threading
import time
import urllib.parse

import httpx
import pytest
import websockets.exceptions
import websockets.sync.client

from harness import PATIENCE, eventually, problem
from transports import Poll, WebSocket

PUSHED = [WebSocket]
ALL = [*PUSHED, Poll]


def names(kinds):
    return {"argvalues": kinds, "ids": [kind.name for kind in kinds]}


def metric(cluster, name):
    total = 0
    for edge in cluster.edges:
        for line in cluster.http.get(f"{edge}/metrics").text.splitlines():
            if line.startswith(name + " "):
                total += float(line.split()[1])
    return total


def open_streams(cluster, user):
    answer = cluster.http.get(f"{cluster.url}/v1/admin/connections", params={"user_id": user.name}, headers=cluster.application)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


# --- The same events -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", **names(ALL))
def test_each_kind_of_event_comes_in_order_with_the_stream_s_data(cluster, user, kind):
    with user.stream() as stream, kind(user) as client:
        assert stream.ready().json["last_event_id"] == client.ready().json["last_event_id"]
        made = cluster.notify(user, title='Grüße "🔔"\n', content="<b>", data={"a": [1, None, "\u001e"]})
        user.write("PATCH", f"/{made['id']}/read")
        cluster.notify(user)
        user.write("POST", "/seen")
        user.write("PATCH", "/read-all")
        user.write("DELETE", f"/{made['id']}")
        for name in ("notification", "update", "notification", "update", "read_all", "delete"):
            event, block = client.expect(name), stream.next()
            assert (event.id, event.json) == (block.id, block.json)


@pytest.mark.parametrize("kind", **names(ALL))
def test_a_client_that_comes_back_is_shown_what_it_missed_once_and_in_order(cluster, user, kind):
    cluster.notify(user)
    with kind(user) as client:
        client.ready()
        cluster.notify(user)
        position = client.expect("notification").id
    for _ in range(150):
        cluster.notify(user)
    with kind(user, last_event_id=position) as client:
        assert client.ready().id == position
        assert [client.expect("notification").seq for _ in range(150)] == list(range(3, 153))
        cluster.notify(user)
        assert client.expect("notification").seq == 153


@pytest.mark.parametrize("position", ["nonsense", "7-1", "1-999", "-", "1-1-1"])
@pytest.mark.parametrize("kind", **names(ALL))
def test_a_resume_point_that_means_nothing_starts_anew(cluster, user, kind, position):
    made = cluster.notify(user)
    with kind(user, last_event_id=position) as client:
        client.ready()
        event = client.expect("resync")
        assert event.json == {"last_event_id": event.id, "unread": 1} and event.seq == made["seq"]
        cluster.notify(user)
        assert client.expect("notification").seq == made["seq"] + 1


@pytest.mark.parametrize("kind", **names(ALL))
def test_a_filter_hides_others_and_moves_the_position_along(cluster, user, kind):
    with kind(user, customer_id="a") as client:
        client.ready()
        cluster.notify(user, customer_id="b")
        cluster.notify(user, customer_id="a")
        event = client.next()
        if event.name == "position":
            assert event.json == {"last_event_id": event.id} and event.seq == 1
            event = client.next()
        assert (event.name, event.seq, event.json["customer_id"], event.json["unread"]) == ("notification", 2, "a", 2)


@pytest.mark.parametrize("kind", **names(PUSHED))
def test_direct_events_come_without_a_position(cluster, user, kind):
    with kind(user) as client:
        client.ready()
        answer = cluster.http.post(
            f"{cluster.url}/v1/notifications/sse", json={"title": "Now", "user_ids": [user.name]}, headers=cluster.application
        )
        assert answer.status_code == 200
        event = client.expect("notification")
        assert event.id is None and event.json["ephemeral"] is True and event.json["title"] == "Now"


def test_a_direct_event_ends_a_poll_that_waits(cluster, user):
    def shown():
        cluster.http.post(f"{cluster.url}/v1/notifications/sse", json={"title": "Now", "user_ids": [user.name]}, headers=cluster.application)
        return client.seen

    with Poll(user) as client:
        # It is for those who wait at that moment.
        event = eventually("a direct event", shown, pause=0.2)[0]
        assert event.id is None and event.json["ephemeral"] is True


# --- Limits, renewal, expiry, administration -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", **names(PUSHED))
def test_one_too_many_evicts_the_oldest_of_whatever_transport(cluster, user, kind):
    with kind(user) as oldest:
        oldest.ready()
        streams = [user.stream(cluster.edges[number % len(cluster.edges)]) for number in range(9)]
        try:
            for stream in streams:
                stream.ready()
            shown = open_streams(cluster, user)
            assert sorted(entry["transport"] for entry in shown) == sorted([kind.transport, *["sse"] * 9])
            assert {entry["connection_id"] for entry in shown if entry["transport"] == kind.transport} == {oldest.seen[0].json["connection_id"]}
            # The eleventh, of the same transport: the oldest goes, then the oldest stream.
            with kind(user) as eleventh:
                eleventh.ready()
                assert oldest.expect("close").json == {"reason": "evicted", "retry": 60000}
                assert oldest.ended() == kind.evicted
                with kind(user) as twelfth:
                    twelfth.ready()
                    assert streams[0].expect("close").json == {"reason": "evicted"}
                assert not streams[1].is_over
        finally:
            for stream in streams:
                stream.close()


def test_a_poll_that_waits_takes_a_place_and_gives_it_back(cluster, user):
    streams = [user.stream() for _ in range(10)]
    try:
        for stream in streams:
            stream.ready()
        # It says where the user is and takes no place.
        position = user.get("/poll")["last_event_id"]
        assert not streams[0].is_over
        started = time.monotonic()
        assert user.get("/poll", params={"after": position, "timeout": 1}) == {"events": [], "last_event_id": position}
        assert time.monotonic() - started > 0.9
        assert streams[0].expect("close").json == {"reason": "evicted"}
        assert [entry["transport"] for entry in open_streams(cluster, user)] == ["sse"] * 9
    finally:
        for stream in streams:
            stream.close()


def test_a_poll_whose_client_is_gone_gives_its_place_back_at_once(cluster, user):
    position = user.get("/poll")["last_event_id"]
    for base in (cluster.url, cluster.edges[0]):
        parts = urllib.parse.urlsplit(base)
        with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
            connection.sendall(
                f"GET /v1/notifications/poll?after={position}&timeout=60 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {user.token}\r\n\r\n".encode()
            )
            eventually("the poll waits", lambda: [entry["transport"] for entry in open_streams(cluster, user)] == ["poll"])
        eventually("its place is free", lambda: not open_streams(cluster, user), timeout=10)


@pytest.mark.parametrize("timeout", ["-1", "61", "x", "1.5", "+5", "1e1", "00025"])
def test_a_poll_s_timeout_is_a_number_of_seconds(user, timeout):
    body = problem(user.request("GET", "/poll", params={"after": "1-0", "timeout": timeout}), 422, "invalid_body")
    assert body["errors"][0]["pointer"] == "timeout"


def test_an_answer_to_a_poll_is_bounded_and_the_next_one_goes_on(cluster, user):
    for _ in range(270):
        cluster.notify(user, content="x" * 4000)
    position, sizes, seqs = "1-0", [], []
    while len(seqs) < 270:
        answer = user.request("GET", "/poll", params={"after": position, "timeout": 5})
        sizes.append(len(answer.content))
        seqs += [event["data"]["seq"] for event in answer.json()["events"]]
        position = answer.json()["last_event_id"]
        assert position == f"1-{seqs[-1]}"
    assert seqs == list(range(1, 271))
    assert len(sizes) == 2 and sizes[0] < 1024 * 1024 + 8192, sizes


@pytest.mark.parametrize("kind", **names(PUSHED))
def test_a_token_that_ends_is_announced_then_ends_the_stream(cluster, kind):
    user = cluster.user(cluster.unique(), "--ttl", "4s")
    with kind(user) as client:
        connection = client.ready().json["connection_id"]
        assert client.expect("auth_expiring").json["connection_id"] == connection
        close = client.expect("close").json
        assert close["reason"] == "token_expired" and 500 <= close["retry"] <= 2500
        assert client.ended() == kind.expired(close)


@pytest.mark.parametrize("kind", **names(PUSHED))
def test_a_fresh_token_extends_it(cluster, kind):
    name = cluster.unique()
    user = cluster.user(name, "--ttl", "6s")
    with kind(user) as client:
        connection = client.ready().json["connection_id"]
        client.expect("auth_expiring")
        fresh = cluster.user(name)
        fresh.write("POST", "/stream-renew", {"connection_id": connection})
        time_of_end = time.monotonic() + 7
        eventually("its first token has ended", lambda: time.monotonic() > time_of_end, pause=0.5)
        cluster.notify(fresh)
        client.expect("notification")


@pytest.mark.parametrize("kind", **names(PUSHED))
def test_an_administrator_can_close_it(cluster, user, kind):
    with kind(user) as client:
        client.ready()
        answer = cluster.http.post(f"{cluster.url}/v1/admin/users/{user.name}/disconnect", headers=cluster.application)
        assert answer.json() == {"disconnected": 1}
        close = client.expect("close").json
        assert close["reason"] == "disconnected"
        assert client.ended() == kind.disconnected(close)


# --- Credentials ---------------------------------------------------------------------------------------------------------


def status_of(connect):
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        connect()
    response = refused.value.response
    return response.status_code, json.loads(response.body)["code"].removeprefix("notifications_m.")


def test_a_ticket_opens_one_websocket(cluster, user):
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    with WebSocket(user, bearer=False, ticket=ticket) as client:
        client.ready()
        cookie = client.socket.response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
    assert status_of(lambda: WebSocket(user, bearer=False, ticket=ticket)) == (401, "invalid_user_id")
    # As a page that comes back with the same URL: the cookie says who it is, and where it comes from must be right.
    session = {"Cookie": cookie.split(";")[0]}
    with WebSocket(user, bearer=False, ticket=ticket, headers={**session, "Origin": cluster.url}) as client:
        client.ready()
    assert status_of(lambda: WebSocket(user, bearer=False, ticket=ticket, headers=session)) == (403, "forbidden")


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_a_cookie_counts_only_from_a_known_page(cluster, user, origin):
    cookie = {"Cookie": f"carillon_token={user.token}"}
    headers = {**cookie, **({"Origin": origin} if origin else {})}
    assert status_of(lambda: WebSocket(user, bearer=False, headers=headers)) == (403, "forbidden")
    with WebSocket(user, bearer=False, headers={**cookie, "Origin": cluster.url}) as client:
        client.ready()


def test_bad_credentials_and_parameters_are_refused_before_the_upgrade(user):
    assert status_of(lambda: WebSocket(user, bearer=False)) == (401, "invalid_user_id")
    assert status_of(lambda: WebSocket(user, headers={"Authorization": "Bearer x"}, bearer=False)) == (401, "invalid_user_id")
    assert status_of(lambda: WebSocket(user, customer_id="x" * 129)) == (422, "invalid_body")
    problem(user.request("GET", "/ws"), 426, "upgrade_required")


# --- Frames --------------------------------------------------------------------------------------------------------------


class Frames:
    """A WebSocket by hand, to send what no library would."""

    def __init__(self, user, base):
        parts = urllib.parse.urlsplit(base)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
        self.socket.sendall(
            "GET /v1/notifications/ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {user.token}\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.stream.readline()
        assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
        opcode, payload = self.read()
        assert opcode == 1 and json.loads(payload)["event"] == "ready"

    def read(self):
        first, length = self.stream.read(2)
        assert first & 0x80 and not length & 0x80
        if length == 126:
            [length] = struct.unpack("!H", self.stream.read(2))
        elif length == 127:
            [length] = struct.unpack("!Q", self.stream.read(8))
        return first & 15, self.stream.read(length)

    def send(self, raw):
        self.socket.sendall(raw)

    def code(self):
        """Of the close frame, after which nothing comes."""
        opcode, payload = self.read()
        assert opcode == 8, (opcode, payload)
        assert self.stream.read(1) == b""
        return struct.unpack("!H", payload[:2])[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()


def frame(opcode, payload=b"", *, final=True, masked=True):
    length = struct.pack("!B", len(payload)) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))
    first = (128 if final else 0) | opcode
    return bytes([first, length[0] | (128 if masked else 0)]) + length[1:] + (b"\0\0\0\0" if masked else b"") + payload


@pytest.mark.parametrize(
    "raw, code",
    [
        (frame(1, b"a", masked=False), 1002), (frame(0, b"a"), 1002), (frame(3), 1002), (frame(0x41, b"a"), 1002), (frame(9, final=False), 1002),
        (frame(1, b"\xff"), 1007), (frame(1, b"\xc3", final=False) + frame(0, b"("), 1007), (frame(1, b"x" * 4097), 1009),
        (frame(1, b"x" * 4000, final=False) + frame(0, b"x" * 97), 1009), (b"\x82\xff\x7f" + b"\xff" * 7, 1009), (frame(2, b"a"), 1003),
        (frame(8), 1000), (frame(8, b"\x0f\xa1bye"), 4001), (frame(8, b"\x03"), 1002), (frame(8, b"\x03\xee"), 1002), (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)  # fmt: skip
def test_frames_that_cannot_be_end_the_websocket_with_the_code_that_says_why(cluster, user, raw, code):
    before = metric(cluster, "carillon_connections")
    with Frames(user, cluster.edges[0]) as frames:
        frames.send(raw)
        assert frames.code() == code
    eventually("its place is free", lambda: metric(cluster, "carillon_connections") <= before)


def test_what_a_client_says_is_ignored_and_its_pings_are_answered(cluster, user):
    with Frames(user, cluster.url) as frames:
        frames.send(frame(1, b"hello") + frame(1, b"he", final=False) + frame(9, b"ping") + frame(0, b"llo") + frame(10))
        assert frames.read() == (10, b"ping")
        cluster.notify(user)
        opcode, payload = frames.read()
        assert opcode == 1 and json.loads(payload)["id"] == "1-1"


def test_a_websocket_that_is_not_read_loses_nothing(cluster, user):
    """What it does not take is kept nowhere: it is read from the log once it reads again."""
    with Frames(user, cluster.edges[0]) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        write_until_behind(cluster, user)
        count = user.count()["unread"]
        seqs = []
        while len(seqs) < count:
            opcode, payload = slow.read()
            if opcode == 1:
                seqs.append(json.loads(payload)["data"]["seq"])
        assert seqs == list(range(1, count + 1))


def write_until_behind(cluster, user):
    """So much that some connection takes no more."""
    for _ in range(8):
        threads = [threading.Thread(target=lambda: [cluster.notify(user, content="x" * 4000) for _ in range(10)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if metric(cluster, "carillon_lagging_connections"):
            return
    raise AssertionError("all was taken")
