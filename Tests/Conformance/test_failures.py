"""What a user notices when nodes and servers die: nothing is lost, shown twice, or out of order.

Each test ends with the cluster whole again.
"""

import concurrent.futures
import os
import subprocess
import threading
import time

import httpx
import pytest

from harness import PATIENCE, Stream, TimedOut, eventually, problem, tolerant
from transports import Poll, SocketIO, SocketIOPolling, SocketIOWebSocket, WebSocket

READY_AGAIN = 60


@pytest.fixture(autouse=True)
def whole(cluster):
    """However a test ends, the next one finds a whole cluster."""
    cluster.make_whole()
    yield
    cluster.make_whole()


class Writers:
    """Notify a user from several threads until they are stopped, and keep what was acknowledged."""

    def __init__(self, cluster, user, url=None, threads=2):
        self.acknowledged = []
        self.refused = []
        self._stop = threading.Event()
        self._cluster, self._user, self._url = cluster, user, url
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._runs = [self._pool.submit(self._write) for _ in range(threads)]

    def _write(self):
        while not self._stop.is_set():
            try:
                answer = self._cluster.publish(url=self._url, title="Hello", user_ids=[self._user.name])
            except httpx.TransportError as error:
                self.refused.append(error)
                self._stop.wait(0.02)
                continue
            if answer.status_code == 201:
                self.acknowledged.append(answer.json()["notifications"][0])
            else:
                self.refused.append(answer)
                self._stop.wait(0.02)

    def wait_for(self, count, what):
        start = len(self.acknowledged)
        eventually(what, lambda: len(self.acknowledged) >= start + count, timeout=READY_AGAIN)

    def stop(self):
        self._stop.set()
        for run in self._runs:
            run.result(PATIENCE)
        self._pool.shutdown()


def notify_when_possible(cluster, user, **fields):
    """Repeats until it is accepted, as an application does that gets 503."""

    def attempt():
        answer = cluster.publish(title="Hello", user_ids=[user.name], **fields)
        return answer.json()["notifications"][0] if answer.status_code == 201 else None

    return eventually("a write is accepted", tolerant(attempt), timeout=READY_AGAIN)


def read_up_to(stream, seq, after=0):
    """Messages from `after` + 1 to `seq`, which must be all of them, in order, once."""
    blocks = [stream.expect("message", timeout=READY_AGAIN) for _ in range(seq - after)]
    assert [block.seq for block in blocks] == list(range(after + 1, seq + 1))
    return blocks


# --- Edges ---------------------------------------------------------------------------------------------------------------


def test_edge_dies_and_its_reader_goes_on_at_another(cluster, user):
    first, second = cluster.edges
    with user.stream(second) as stream:
        stream.ready()
        for _ in range(3):
            cluster.notify(user)
        read_up_to(stream, 3)
        cluster.local("kill", "edge-2")
        assert stream.end() == []
        position = stream.last_id
    missed = [cluster.notify(user) for _ in range(4)]
    with user.stream(first, last_event_id=position) as stream:
        assert stream.ready().id == position
        blocks = read_up_to(stream, 7, after=3)
        assert [block.json["id"] for block in blocks] == [made["id"] for made in missed]
        live = cluster.notify(user)
        assert stream.expect("message").json["id"] == live["id"]


def test_edge_dies_under_load_and_nothing_is_missed(cluster, user):
    first, second = cluster.edges
    writers = Writers(cluster, user)
    try:
        with user.stream(second) as stream:
            start = stream.ready()
            writers.wait_for(20, "twenty writes")
            cluster.local("kill", "edge-2")
            blocks = stream.end()
            position = stream.last_id
            assert [block.seq for block in blocks] == list(range(start.seq + 1, start.seq + 1 + len(blocks)))
        writers.wait_for(10, "ten writes while the edge is dead")
    finally:
        writers.stop()
    last = max(made["seq"] for made in writers.acknowledged)
    with user.stream(first, last_event_id=position) as stream:
        assert stream.ready().id == position
        read_up_to(stream, last, after=int(position.split("-")[1]))


class Returning:
    """A client that comes back with its position whenever its connection ends, as people's clients do."""

    def __init__(self, kind, user, base):
        self.kind, self.user = kind, user
        self.seqs = []
        self._client = kind(user, base)
        self._client.ready()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        client, position = self._client, self._client.last_id
        while not self._stop.is_set():
            try:
                event = client.next(timeout=1)
            except TimedOut:
                if not client.is_over:
                    continue
                event = None
            if event is not None and event.id is not None and event.name != "ready":
                position = event.id
                self.seqs.append(event.seq)
            if event is not None and event.name != "close":
                continue
            client.close()
            client = None
            while client is None and not self._stop.is_set():
                try:
                    client = self.kind(self.user, last_event_id=position)
                except Exception:  # However it is told: the load balancer's answer, a reset, a handshake that is not answered.
                    self._stop.wait(0.2)
        if client is not None:
            client.close()

    def stop(self):
        self._stop.set()
        self._thread.join(PATIENCE)


def test_an_edge_dies_and_a_client_of_each_transport_goes_on_at_another(cluster, user):
    clients = [Returning(kind, user, cluster.edges[1]) for kind in (WebSocket, SocketIO, SocketIOWebSocket, SocketIOPolling, Poll)]
    writers = Writers(cluster, user, threads=1)
    try:
        writers.wait_for(20, "some are written")
        cluster.local("kill", "edge-2")
        writers.wait_for(60, "some more are written")
        writers.stop()
        last = max(entry["seq"] for entry in writers.acknowledged)
        for client in clients:
            eventually(f"{client.kind.name} has all of it", lambda client=client: client.seqs and client.seqs[-1] >= last, timeout=READY_AGAIN)
    finally:
        writers.stop()
        for client in clients:
            client.stop()
    for client in clients:
        assert client.seqs == list(range(1, last + 1)), client.kind.name


def test_an_edge_that_is_stopped_tells_each_transport(cluster):
    clients = [kind(cluster.fresh_user(), cluster.edges[1]) for kind in (WebSocket, SocketIO, SocketIOPolling)]
    waiting = Poll(cluster.fresh_user(), cluster.edges[1], timeout=60)
    for client in clients:
        client.ready()
    cluster.local("stop", "edge-2")
    for client in clients:
        close = client.expect("close").json
        assert close["reason"] == "draining" and 1000 <= close["retry"] <= 2500
        ended = client.ended()
        assert ended == (1012, close) if isinstance(client, WebSocket) else "others", client.name
    assert waiting.expect("close").json["reason"] == "draining"


def test_limit_heals_after_an_edge_died(cluster, user):
    first, second = cluster.edges
    staying = [user.stream(first) for _ in range(5)]
    dying = []
    try:
        for stream in staying:
            stream.ready()
        dying = [user.stream(second) for _ in range(5)]
        for stream in dying:
            stream.ready()
        cluster.local("kill", "edge-2")
        killed = time.monotonic()
        for stream in dying:
            stream.end()
        # The promise is three seconds. There is nothing to look at before that without taking a place.
        threading.Event().wait(max(0, killed + 4.5 - time.monotonic()))
        for _ in range(5):
            staying.append(user.stream(first))
            staying[-1].ready()
        cluster.notify(user)
        for stream in staying:
            stream.expect("message")
        # And ten are ten again.
        staying.append(user.stream(first))
        staying[-1].ready()
        assert staying[0].expect("close").json == {"reason": "evicted"}
    finally:
        for stream in staying + dying:
            stream.close()


def test_edge_that_is_stopped_closes_its_streams_one_by_one(cluster):
    edge = cluster.edges[1]
    users = [cluster.fresh_user() for _ in range(12)]
    streams = [user.stream(edge) for user in users]
    try:
        for stream in streams:
            stream.ready()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(cluster.local, "stop", "edge-2")
            eventually(
                "the edge is no longer ready",
                lambda: tolerant(lambda: cluster.http.get(f"{edge}/health/ready").status_code == 503)() or stopped.done(),
            )
            for user in users:
                cluster.notify(user)
            retries, late = set(), 0
            for stream in streams:
                blocks = stream.end(timeout=READY_AGAIN)
                assert blocks[-1].name == "close" and blocks[-1].json == {"reason": "draining"}, [str(block) for block in blocks]
                assert [block.name for block in blocks[:-1]] in ([], ["message"])
                late += len(blocks) - 1
                retries.add(blocks[-1].retry)
            stopped.result(READY_AGAIN)
        assert len(retries) > 1 and min(retries) >= 500, "each stream has a retry of its own"
        assert late > 0, "streams that wait for their turn still show what happens"
        # Who comes back finds what it has not seen.
        for user, stream in zip(users, streams):
            with user.stream(last_event_id=stream.last_id) as again:
                seq = again.ready().seq
                if seq == 0:
                    assert again.expect("message").seq == 1
    finally:
        for stream in streams:
            stream.close()


def test_load_balancer_without_edges_sends_streams_away(cluster, user):
    for name in ("edge-1", "edge-2"):
        cluster.local("kill", name)
    for _ in range(3):
        with user.stream() as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            blocks = stream.end()
            retries = [block.retry for block in blocks if block.retry]
            assert retries and 500 <= retries[0] <= 2500
            assert blocks[-1].name == "close" and blocks[-1].json["reason"]
    eventually("the load balancer says so", lambda: cluster.http.get(f"{cluster.url}/balancer/ready").status_code == 503)
    cluster.notify(user)
    cluster.make_whole()
    position = user.count()["last_event_id"]
    epoch = position.split("-")[0]
    with user.stream(last_event_id=f"{epoch}-0") as stream:
        stream.ready()
        read_up_to(stream, 1)


# --- API nodes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(3))
def test_api_node_dies_and_what_it_acknowledged_is_shown(cluster, user, turn):
    name, url = f"api-{turn % 2 + 1}", cluster.apis[turn % 2]
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two:
        one.ready()
        two.ready()
        writers = Writers(cluster, user, url=url, threads=4)
        try:
            writers.wait_for(20, "twenty writes")
            cluster.local("kill", name)
        finally:
            writers.stop()
        # The other one takes over, whatever the first has left behind.
        last = notify_when_possible(cluster, user)
        assert len({made["id"] for made in writers.acknowledged}) == len(writers.acknowledged)
        for stream in (one, two):
            blocks = read_up_to(stream, last["seq"])
            shown = {block.json["id"]: block.seq for block in blocks}
            for made in writers.acknowledged:
                assert shown[made["id"]] == made["seq"]
            assert [block.json["unread"] for block in blocks] == list(range(1, last["seq"] + 1))
    assert user.count()["unread"] == last["seq"]


def test_worker_dies_and_a_scheduled_one_comes_once_it_is_back(cluster, user):
    with user.stream() as stream:
        stream.ready()
        cluster.local("kill", "worker-1")
        made = cluster.notify(user, deliver_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6)))
        assert made["seq"] is None
        cluster.local("start", "worker-1")
        assert stream.expect("message").json["id"] == made["id"]


# --- Redis ---------------------------------------------------------------------------------------------------------------


def redis_is_back(cluster):
    eventually("every node has Redis again", tolerant(lambda: cluster.has_both_servers(server=("redis",))), timeout=READY_AGAIN)


def test_without_redis_everything_that_matters_goes_on(cluster, user, other):
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two:
        one.ready()
        two.ready()
        cluster.notify(user)
        read_up_to(one, 1)
        read_up_to(two, 1)
        cluster.local("kill", "redis")
        for number in range(2, 7):
            made = cluster.notify(user)
            assert made["seq"] == number
            for stream in (one, two):
                block = stream.expect("message")
                assert (block.seq, block.json["id"], block.json["unread"]) == (number, made["id"], number)
        assert user.count()["unread"] == 6
        user.write("POST", "/read-all")
        assert one.expect("read_all").seq == two.expect("read_all").seq == 7
        # New streams are let in, and resume.
        with user.stream(last_event_id=one.received[0].id) as third, other.stream() as fourth:
            third.ready()
            read_up_to(third, 6)
            assert third.expect("read_all").seq == 7
            fourth.ready()
            cluster.notify([user, other])
            for stream in (one, two, third, fourth):
                stream.expect("message")

            cluster.local("start", "redis")
            redis_is_back(cluster)
            cluster.notify([user, other])
            for stream in (one, two, third, fourth):
                assert stream.expect("message").json["unread"] == 2
            assert not any(stream.is_over for stream in (one, two, third, fourth))
    assert user.count()["unread"] == other.count()["unread"] == 2


def test_redis_dies_under_load(cluster, user):
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two:
        one.ready()
        two.ready()
        writers = Writers(cluster, user)
        try:
            writers.wait_for(20, "twenty writes")
            cluster.local("kill", "redis")
            writers.wait_for(20, "twenty writes without Redis")
            cluster.local("start", "redis")
            redis_is_back(cluster)
            writers.wait_for(20, "twenty writes with Redis again")
        finally:
            writers.stop()
        assert writers.refused == []
        last = max(made["seq"] for made in writers.acknowledged)
        assert last == len(writers.acknowledged)
        for stream in (one, two):
            blocks = read_up_to(stream, last)
            assert {block.json["id"] for block in blocks} == {made["id"] for made in writers.acknowledged}
    assert user.count()["unread"] == last


def test_connection_limit_holds_again_after_redis_was_away(cluster, user):
    streams = [user.stream(cluster.edges[number % 2]) for number in range(10)]
    try:
        for stream in streams:
            stream.ready()
        cluster.local("kill", "redis")
        cluster.local("start", "redis")
        redis_is_back(cluster)

        # The edges register their streams anew once they are connected; from then on one too many evicts the oldest.
        def attempt():
            streams.append(user.stream(cluster.edges[0]))
            streams[-1].ready()
            return any(block.name == "close" for stream in list(streams) for block in stream.received)

        eventually("the limit is held again", attempt, pause=1)
        eventually("ten streams are left", lambda: sum(not stream.is_over for stream in streams) == 10)
    finally:
        for stream in streams:
            stream.close()


# --- Postgres ------------------------------------------------------------------------------------------------------------


def test_without_postgres_writes_are_refused_and_streams_stay(cluster, user):
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two:
        one.ready()
        two.ready()
        cluster.notify(user)
        read_up_to(one, 1)
        read_up_to(two, 1)
        cluster.local("stop", "postgres")
        answer = cluster.publish(title="Hello", user_ids=[user.name])
        problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        for method, path in (("GET", ""), ("POST", "/read-all")):
            answer = user.request(method, path)
            problem(answer, 503, "unavailable")
            assert "retry-after" in answer.headers
        # A new stream is not an error either: EventSource would give up.
        with user.stream() as stream:
            assert stream.status == 200
            blocks = stream.end()
            assert blocks[-1].name == "close" and 500 <= blocks[-1].retry <= 2500
        assert not one.is_over and not two.is_over

        cluster.local("start", "postgres")
        made = notify_when_possible(cluster, user, content="back")
        assert made["seq"] == 2
        for stream in (one, two):
            block = stream.expect("message")
            assert (block.seq, block.json["id"], block.json["unread"]) == (2, made["id"], 2)
    assert user.count()["unread"] == 2


def test_without_postgres_preferences_are_out_of_reach_and_direct_events_flow(cluster, user):
    """Preferences and notifications are refused for now; direct events still flow."""
    with user.stream() as stream:
        stream.ready()
        cluster.local("stop", "postgres")
        try:
            eventually("preferences are out of reach", lambda: user.request("GET", "/preferences").status_code == 503)
            answer = user.request("PUT", "/preferences", json={"in_app": False})
            assert "retry-after" in answer.headers
            problem(answer, 503, "unavailable")
            problem(cluster.publish(title="Hi", user_ids=[user.name]), 503, "unavailable")
            for number in range(5):
                direct = {"title": f"direct {number}", "user_ids": [user.name]}
                answer = cluster.http.post(f"{cluster.url}/v1/notifications/sse", json=direct, headers=cluster.application)
                assert answer.status_code == 200, answer.text
                assert stream.expect("message").json["title"] == f"direct {number}"
        finally:
            cluster.make_whole()
    assert user.request("PUT", "/preferences", json={"in_app": False}).status_code == 200


def test_postgres_dies_under_load(cluster, user):
    """Whatever was acknowledged is there, and what is there is shown, whether or not the answer arrived."""
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two:
        one.ready()
        two.ready()
        writers = Writers(cluster, user)
        try:
            writers.wait_for(20, "twenty writes")
            cluster.local("kill", "postgres")
            cluster.local("start", "postgres")
            writers.wait_for(20, "twenty writes after Postgres is back")
        finally:
            writers.stop()
        for answer in writers.refused:
            assert isinstance(answer, httpx.Response) and answer.status_code == 503, answer
        last = max(made["seq"] for made in writers.acknowledged)
        for stream in (one, two):
            blocks = read_up_to(stream, last)
            shown = {block.json["id"]: block.seq for block in blocks}
            for made in writers.acknowledged:
                assert shown[made["id"]] == made["seq"]
    assert user.count()["unread"] == last


# --- The load balancer ---------------------------------------------------------------------------------------------------


def test_load_balancer_dies_and_its_streams_come_back(cluster, user):
    with user.stream() as stream:
        stream.ready()
        cluster.notify(user)
        read_up_to(stream, 1)
        cluster.local("kill", "haproxy")
        assert stream.end() == []
        position = stream.last_id
    cluster.notify(user, url=cluster.apis[0])
    cluster.local("start", "haproxy")
    stream = eventually("a stream is opened again", lambda: open_or_none(user, position), timeout=READY_AGAIN)
    with stream:
        assert stream.ready().id == position
        read_up_to(stream, 2, after=1)


def open_or_none(user, position) -> Stream | None:
    try:
        stream = user.stream(last_event_id=position)
    except OSError:
        return None
    return stream if stream.status == 200 else None


# --- Another life of the data --------------------------------------------------------------------------------------------


def advance_epoch(cluster):
    """`carillon epoch advance`, as an operator does after a restore."""
    settings = {"CARILLON_DATABASE_URL": cluster.database_url}
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CARILLON_")}
    program = os.environ.get("CARILLON_BIN")
    if program:
        command = [program, "epoch", "advance"]
    else:
        command = ["psql", "-X", "-d", cluster.database_url, "-c", "SELECT advance_epoch()"]
    result = subprocess.run(
        command, env={**environment, **settings}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr or result.stdout


def test_new_epoch_has_every_stream_start_anew(cluster, user, other):
    cluster.notify([user, other])
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two, other.stream() as idle:
        before = one.ready()
        two.ready()
        idle.ready()
        advance_epoch(cluster)
        for stream in (one, two, idle):
            resync = stream.expect("resync")
            assert resync.epoch > before.epoch
            assert resync.json == {"last_event_id": resync.id, "unread": 1}
        made = cluster.notify(user)
        for stream in (one, two):
            block = stream.expect("message")
            assert (block.json["id"], block.epoch) == (made["id"], resync.epoch)
    # A position of the old life means nothing any more.
    with user.stream(last_event_id=before.id) as stream:
        stream.ready()
        stream.expect("resync")
    assert user.count()["last_event_id"] == block.id == user.list()["last_event_id"]
    assert user.count()["unread"] == 2
