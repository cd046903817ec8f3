"""What dies and comes back. Each test leaves the cluster whole; they run last."""

import os
import subprocess

import pytest

from carillon import APIS, EDGES, KEY, URL, Stream, call, eventually, local, metrics, new_user, notify, problem, token


@pytest.fixture
def user():
    return new_user()


@pytest.fixture
def jwt(user):
    return token(user)


def wait_until_whole():
    eventually(lambda: all(call("GET", "/health/ready", base=base).json()["status"] == "ready" for base in APIS + EDGES), "the whole cluster")
    # The balancer looks at a node that was down from time to time.
    eventually(lambda: local("status"), "every server and the balancer")


@pytest.fixture(autouse=True)
def whole():
    wait_until_whole()
    yield
    wait_until_whole()


def test_an_edge_is_killed_and_the_other_shows_what_was_missed(user, jwt):
    with Stream(jwt, EDGES[1]) as stream:
        stream.expect("ready")
        notify(user, "seen")
        last = stream.expect("message").id
        local("kill", "edge-2")
        missed = [notify(user, str(number))[0]["id"] for number in range(20)]
        assert stream.next() is None
    with Stream(jwt, EDGES[0], last=last) as stream:
        assert stream.expect("ready").id == last
        assert [stream.expect("message").data["id"] for _ in missed] == missed
        notify(user, "live")
        assert stream.expect("message").data["title"] == "live"
    local("start", "edge-2")


def test_leases_of_a_killed_edge_do_not_count(user, jwt):
    held = [Stream(jwt, EDGES[1]) for _ in range(10)]
    for stream in held:
        stream.expect("ready")
    local("kill", "edge-2")

    def nobody_is_evicted():
        fresh = [Stream(jwt, EDGES[0]) for _ in range(10)]
        for stream in fresh:
            stream.expect("ready")
        notify(user, "probe")
        kept = all((event := stream.next()) is not None and event.name == "message" for stream in fresh)
        for stream in fresh:
            stream.close()
        return kept

    eventually(nobody_is_evicted, "the limit to heal")
    local("start", "edge-2")


def test_redis_is_killed_and_nothing_is_lost(user, jwt):
    with Stream(jwt, EDGES[0]) as first, Stream(jwt, EDGES[1]) as second:
        for stream in (first, second):
            stream.expect("ready")
        sent = [notify(user, "before")[0]["id"]]
        local("kill", "redis")
        sent += [notify(user, f"without {number}")[0]["id"] for number in range(5)]
        for stream in (first, second):
            assert [stream.expect("message").data["id"] for _ in range(6)] == sent
        assert call("GET", "/v1/notifications/count", jwt).json()["unread"] == 6
        with Stream(jwt, EDGES[0], last=first.last) as fresh:
            fresh.expect("ready")
        local("start", "redis")
        after = notify(user, "after")[0]["id"]
        for stream in (first, second):
            assert stream.expect("message").data["id"] == after
        wait_until_whole()
        assert call("GET", "/v1/notifications/count", jwt).json()["unread"] == 7


def test_postgres_stops_and_streams_stay_open(user, jwt):
    with Stream(jwt, EDGES[0]) as stream:
        stream.expect("ready")
        local("stop", "postgres")
        # An answer that is no success is false: it is wrapped.
        [answer] = eventually(
            lambda: [found for found in [call("POST", "/v1/internal/notify", KEY, json={"title": "x", "user_id": user})] if found.status_code == 503],
            "503")
        problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
        with Stream(jwt, EDGES[0]) as refused:
            assert refused.status == 200 and refused.expect("close").data["reason"] == "disconnected" and refused.retry >= 500
        local("start", "postgres")
        made = eventually(lambda: notify(user, "back"), "writes")[0]["id"]
        assert stream.expect("message").data["id"] == made


def test_an_api_node_dies_under_load_and_what_it_answered_is_there(user, jwt):
    with Stream(jwt, EDGES[0]) as stream:
        stream.expect("ready")
        answered = [notify(user, str(number), base=APIS[0])[0]["seq"] for number in range(30)]
        local("kill", "api-1")
        answered += [entry["seq"] for entry in notify(user, "other", base=APIS[1])]
        assert answered == list(range(1, 32))
        assert [int(stream.expect("message").id.split("-")[1]) for _ in answered] == answered
    local("start", "api-1")


def test_a_draining_edge_says_so(user, jwt):
    with Stream(jwt, EDGES[1]) as stream:
        stream.expect("ready")
        stopping = subprocess.Popen([os.environ["CARILLON_LOCAL"], "stop", "edge-2", "--state", os.environ["CARILLON_LOCAL_STATE"]])
        assert stream.expect("close").data == {"reason": "draining"} and stream.retry >= 500
        assert stream.next() is None
        assert stopping.wait(timeout=60) == 0
    local("start", "edge-2")


def test_without_any_edge_the_balancer_sends_streams_away_kindly(jwt):
    for name in ("edge-1", "edge-2"):
        local("kill", name)

    def answered():
        with Stream(jwt, URL) as stream:
            return stream.status == 200 and stream.expect("close") and stream.retry >= 500

    eventually(answered, "the load balancer's own answer")
    for name in ("edge-1", "edge-2"):
        local("start", name)


def test_a_new_epoch_starts_every_stream_anew(user, jwt):
    notify(user)
    with Stream(jwt, EDGES[0]) as stream:
        old = stream.expect("ready")
        binary, url = os.environ["CARILLON_BIN"], os.environ["CARILLON_DATABASE_URL"]
        said = subprocess.run(
            [binary, "epoch", "advance"], check=True, timeout=60, capture_output=True, text=True, env=os.environ | {"CARILLON_DATABASE_URL": url}
        ).stdout
        resync = stream.expect("resync")
        # Users who were erased have taken numbers in between.
        assert int(resync.id.split("-")[0]) == int(said.split()[-1]) > int(old.id.split("-")[0]) and resync.data["unread"] == 1
        notify(user, "new life")
        assert stream.expect("message").data["title"] == "new life"
    with Stream(jwt, EDGES[1], last=old.id) as stream:
        stream.expect("ready")
        stream.expect("resync")
    assert metrics(EDGES[0])["carillon_unread_drift_total"] == 0
