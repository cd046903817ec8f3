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
from transports import Poll, SocketIO, SocketIOPolling, SocketIOWebSocket, WebSocket

PUSHED = [WebSocket, SocketIO, SocketIOWebSocket, SocketIOPolling]
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
        eventually("its place is free", lambda: [entry["transport"] for entry in open_streams(cluster, user)] == ["sse"] * 9)
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
    user = cluster.user(cluster.unique(), "--ttl", "8s")
    with kind(user) as client:
        connection = client.ready().json["connection_id"]
        assert client.expect("auth_expiring").json["connection_id"] == connection
        close = client.expect("close").json
        assert close["reason"] == "token_expired" and 500 <= close["retry"] <= 2500
        assert client.ended() == kind.expired(close)


@pytest.mark.parametrize("kind", **names(PUSHED))
def test_a_fresh_token_extends_it(cluster, kind):
    name = cluster.unique()
    user = cluster.user(name, "--ttl", "12s")
    with kind(user) as client:
        connection = client.ready().json["connection_id"]
        client.expect("auth_expiring")
        fresh = cluster.user(name)
        fresh.write("POST", "/stream-renew", {"connection_id": connection})
        time_of_end = time.monotonic() + 13
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


# --- Socket.IO by hand ---------------------------------------------------------------------------------------------------


class Session:
    """A session of Engine.IO on polls, without cookies."""

    def __init__(self, cluster, base=None, **options):
        self.cluster, self.url = cluster, f"{base or cluster.url}/socket.io/"
        self.sid = None
        answer = self.get(**options)
        assert answer.status_code == 200, answer.text
        self.handshake = json.loads(answer.text.removeprefix("0"))
        self.sid = self.handshake["sid"]

    @property
    def query(self):
        return {"EIO": "4", "transport": "polling", **({"sid": self.sid} if self.sid else {})}

    def get(self, *, params=None, **options):
        self.cluster.http.cookies.clear()
        return self.cluster.http.get(self.url, params={**self.query, **(params or {})}, **options)

    def post(self, payload):
        self.cluster.http.cookies.clear()
        return self.cluster.http.post(self.url, params=self.query, content=payload)

    def say(self, payload):
        answer = self.post(payload)
        assert (answer.status_code, answer.text) == (200, "ok"), answer.text

    def packets(self):
        answer = self.get()
        assert answer.status_code == 200, answer.text
        return answer.text.split("\x1e")

    def connect(self, user, **auth):
        """Answers the packets up to `ready`, and those that came with it."""
        self.say("40" + json.dumps({"token": user.token, **auth}))
        packets = []
        while not any(packet.startswith('42["ready"') for packet in packets):
            packets += self.packets()
        return packets


def test_a_handshake_says_what_the_protocol_wants(cluster):
    handshake = Session(cluster).handshake
    assert set(handshake) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
    assert handshake["upgrades"] == ["websocket"] and (handshake["pingInterval"], handshake["pingTimeout"]) == (25000, 20000)


def test_sessions_find_their_edge_without_cookies(cluster, user):
    """Through the load balancer, each request on a connection of its own."""
    nodes = set()
    for _ in range(8):
        session = Session(cluster)
        packets = session.connect(user)
        assert packets[0].startswith("40") and len(packets) == 2
        ready = json.loads(packets[1][2:])[1]
        assert session.sid.startswith(ready["node"] + ".")
        nodes.add(ready["node"])
        session.say("41")
    assert len(nodes) == len(cluster.edges)


@pytest.mark.parametrize(
    "query", [{"EIO": "3"}, {"EIO": ""}, {"transport": "flashsocket"}, {"transport": "websocket"}, {"sid": "edge-1.unknown"}, {"sid": ""}]
)
def test_requests_that_are_none_of_the_protocol_are_refused(cluster, query):
    url = f"{cluster.edges[0]}/socket.io/"
    problem(cluster.http.get(url, params={"EIO": "4", "transport": "polling", **query}), 400, "invalid_request")
    problem(cluster.http.post(url, params={"EIO": "4", "transport": "polling", **query}), 400, "invalid_request")


@pytest.mark.parametrize("payload", ["", "x", "2", "5", "b4AQ==", "4", "49", "42", "40[]", "451-[0]", "40{}\x1e", "4\x1e4", "42[\x1e"])
def test_payloads_that_cannot_be_end_their_session_and_no_other(cluster, user, payload):
    other, session = Session(cluster, cluster.edges[0]), Session(cluster, cluster.edges[0])
    other.connect(user)
    session.post(payload)
    # Where it waits for a moment longer, it is to say that it is over.
    answer = session.get()
    assert answer.status_code == 400 or answer.text.split("\x1e")[-1] == "1", answer.text
    assert session.get().status_code == 400
    cluster.notify(user)
    assert other.packets()[0].startswith('42["notification",{')
    other.say("41")


def test_a_payload_has_a_bound(cluster):
    session = Session(cluster)
    problem(session.post('42["' + "x" * session.handshake["maxPayload"] + '"]'), 413, "too_large")


def test_what_a_client_emits_is_ignored_and_other_namespaces_are_refused(cluster, user):
    session = Session(cluster)
    session.say('42["before"]\x1e40/admin,{}')
    assert session.packets() == ['44/admin,{"message":"Invalid namespace"}']
    session.connect(user)
    session.say('42["hello",{}]\x1e427["hello"]')
    cluster.notify(user)
    assert session.packets()[0].startswith('42["notification",{')


def test_two_polls_at_once_end_the_session(cluster, user):
    session = Session(cluster)
    session.connect(user)
    answers = []
    first = threading.Thread(target=lambda: answers.append(session.get()))
    first.start()
    eventually("one of two polls is refused", lambda: session.get().status_code == 400)
    first.join(PATIENCE)
    eventually("its place is free", lambda: not open_streams(cluster, user))


def test_bad_tokens_are_told_and_another_one_may_follow(cluster, user):
    session = Session(cluster)
    for auth in ({"token": "x"}, {"token": ""}, {}, {"token": 7}, {"token": cluster.api_key}):
        if auth == {}:
            continue
        session.say("40" + json.dumps(auth))
        [packet] = session.packets()
        said = json.loads(packet.removeprefix("44"))
        assert said["data"]["status"] in (401, 403) and said["message"]
    assert not session.connect(user)[0].startswith("44")


def test_whom_a_handshake_names_need_not_be_named_again(cluster, user):
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    cookie = {"Cookie": f"carillon_token={user.token}", "Origin": cluster.url}
    for options in ({"headers": user.bearer}, {"params": {"ticket": ticket}}, {"headers": cookie}):
        session = Session(cluster, **options)
        session.say("40")
        packets = []
        while not any(packet.startswith('42["ready"') for packet in packets):
            packets += session.packets()
        session.say("41")
    session = Session(cluster, params={"ticket": ticket})
    session.say("40")
    assert session.packets()[0].startswith("44")


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_a_session_by_cookie_needs_a_known_page(cluster, user, origin, transport):
    headers = {"Cookie": f"carillon_token={user.token}", **({"Origin": origin} if origin else {})}
    if transport == "polling":
        problem(cluster.http.get(f"{cluster.url}/socket.io/?EIO=4&transport=polling", headers=headers), 403, "forbidden")
    else:
        url = cluster.url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            websockets.sync.client.connect(url, additional_headers=headers, proxy=None, legacy=True)
        assert refused.value.response.status_code == 403


def test_a_session_that_does_not_poll_is_kept_as_a_position(cluster, user):
    session = Session(cluster, cluster.edges[0])
    session.connect(user)
    write_until_behind(cluster, user)
    count = user.count()["unread"]
    seqs, largest = [], 0
    while len(seqs) < count:
        answer = session.get()
        largest = max(largest, len(answer.content))
        for packet in answer.text.split("\x1e"):
            if packet == "2":
                session.say("3")
            elif packet.startswith('42["notification"'):
                seqs.append(json.loads(packet[2:])[1]["seq"])
    assert seqs == list(range(1, count + 1))
    assert largest < 128 * 1024
    session.say("41")


def test_events_during_an_upgrade_come_once_and_in_order(cluster, user):
    """Whatever the upgrade's steps fall between."""
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            written.append(cluster.notify(user)["seq"])

    writer = threading.Thread(target=write)
    writer.start()
    clients = []
    try:
        for number in range(6):
            clients.append(SocketIO(user, cluster.edges[number % len(cluster.edges)], last_event_id="1-0"))
        eventually("some more were written", lambda: len(written) > 60)
    finally:
        stop.set()
        writer.join(PATIENCE)
    for client in clients:
        eventually("all of it has come", lambda client=client: client.last_id == f"1-{written[-1]}")
        assert [event.seq for event in client.seen if event.name == "notification"] == list(range(1, written[-1] + 1))
        client.close()
    eventually("no session is left", lambda: not open_streams(cluster, user))
