"""The stream: what it shows, in which order, and where a reconnect goes on."""

import concurrent.futures
import re
import urllib.parse

import pytest

from harness import Stream, eventually, redis

POSITION = re.compile(r"^[1-9][0-9]*-(0|[1-9][0-9]*)$")


def test_headers(user):
    with user.stream() as stream:
        stream.ready()
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in stream.headers


def test_ready_tells_where_the_stream_stands(cluster, user):
    cluster.notify(user)
    cluster.notify(user)
    user.write("POST", "/seen")
    cluster.notify(user)
    with user.stream() as stream:
        ready = stream.ready()
        assert 500 <= ready.retry <= 2500
        assert POSITION.match(ready.id) and ready.seq == 4
        assert re.match(r"^[0-9a-f-]{36}$", ready.json["connection_id"])
        assert {name: ready.json[name] for name in ("unread", "unseen", "last_event_id")} == {
            "unread": 3, "unseen": 1, "last_event_id": ready.id,
        }  # fmt: skip
        assert ready.json["node"] in ("edge-1", "edge-2")
        assert ready.id == user.count()["last_event_id"]


def test_streams_on_every_node_show_the_same(cluster, user):
    streams = [user.stream(base) for base in cluster.edges for _ in range(2)]
    try:
        for stream in streams:
            stream.ready()
        made = [cluster.notify(user, url=base, title=f"{number}") for number in range(5) for base in cluster.apis]
        user.write("PATCH", f"/{made[0]['id']}/read")
        user.write("POST", "/read-all")
        user.write("DELETE", f"/{made[1]['id']}")
        stories = []
        for stream in streams:
            blocks = [stream.next() for _ in range(13)]
            assert [block.seq for block in blocks] == list(range(1, 14))
            stories.append([(block.name, block.id, block.json) for block in blocks])
        assert all(story == stories[0] for story in stories)
        assert [name for name, _, _ in stories[0]] == ["message"] * 10 + ["update", "read_all", "delete"]
        assert [data["unread"] for _, _, data in stories[0]] == [*range(1, 11), 9, 0, 0]
    finally:
        for stream in streams:
            stream.close()


def test_a_crowd_of_writers_is_shown_in_order_and_once(cluster, user):
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two:
        one.ready()
        two.ready()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda number: cluster.notify(user, url=cluster.apis[number % 2]), range(120)))
        numbers = {entry["id"]: entry["seq"] for entry in made}
        assert sorted(numbers.values()) == list(range(1, 121))
        for stream in (one, two):
            blocks = [stream.expect("message") for _ in range(120)]
            assert [block.seq for block in blocks] == list(range(1, 121))
            assert {block.json["id"]: block.seq for block in blocks} == numbers
            assert [block.json["unread"] for block in blocks] == list(range(1, 121))


def test_other_users_see_nothing_of_it(cluster, user, other):
    with user.stream() as stream:
        stream.ready()
        cluster.notify(other, title="not for you")
        cluster.notify(user, title="for you")
        assert stream.expect("message").json["title"] == "for you"


def test_alias_of_the_path(cluster, user):
    with user.stream(path="/v1/notifications/stream") as stream:
        stream.ready()
        cluster.notify(user)
        stream.expect("message")


# --- Resume --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_header", [True, False])
def test_reconnect_shows_what_was_missed_and_goes_on(cluster, user, by_header):
    with user.stream(cluster.edges[0]) as stream:
        stream.ready()
        first = cluster.notify(user)
        position = stream.expect("message").id
    missed = [cluster.notify(user) for _ in range(3)]
    user.write("PATCH", f"/{missed[0]['id']}/read")
    user.write("DELETE", f"/{missed[1]['id']}")
    user.write("PATCH", f"/{first['id']}/read")
    user.write("POST", "/read-all")
    resume = {"last_event_id": position} if by_header else {}
    query = {} if by_header else {"path": f"/v1/notifications/sse?last_event_id={position}"}
    with user.stream(cluster.edges[1], **resume, **query) as stream:
        ready = stream.ready()
        assert ready.id == position
        assert ready.json["unread"] == 1, "ready carries the counts at the point where the replay begins"
        blocks = [stream.next() for _ in range(7)]
        assert [block.seq for block in blocks] == list(range(2, 9))
        # What is gone since is shown as gone, under the number of its creation too.
        assert [block.name for block in blocks] == ["message", "delete", "message", "update", "delete", "update", "read_all"]
        assert [block.json["unread"] for block in blocks] == [2, 3, 4, 3, 2, 1, 0]
        assert blocks[1].json["id"] == blocks[4].json["id"] == missed[1]["id"]
        live = cluster.notify(user)
        assert stream.expect("message").json["id"] == live["id"]


def test_reconnect_at_the_head_shows_nothing_old(cluster, user):
    cluster.notify(user)
    position = user.count()["last_event_id"]
    with user.stream(last_event_id=position) as stream:
        assert stream.ready().id == position
        cluster.notify(user, title="live")
        assert stream.expect("message").json["title"] == "live"


def test_header_counts_before_the_query(cluster, user):
    for _ in range(3):
        cluster.notify(user)
    epoch = user.count()["last_event_id"].split("-")[0]
    with user.stream(last_event_id=f"{epoch}-2", path=f"/v1/notifications/sse?last_event_id={epoch}-0") as stream:
        assert stream.ready().seq == 2
        assert stream.expect("message").seq == 3


@pytest.mark.parametrize("where", ["header", "query", "both"])
def test_empty_resume_point_counts_as_absent(cluster, user, where):
    cluster.notify(user)
    header = {"last_event_id": ""} if where != "query" else {}
    path = "/v1/notifications/sse" + ("?last_event_id=" if where != "header" else "")
    with user.stream(path=path, **header) as stream:
        assert stream.ready().seq == 1
        cluster.notify(user)
        assert stream.expect("message").seq == 2


BAD_POSITIONS = [
    "abc", "1", "1-", "-1", "-", "1-abc", "1-1-1", "1--1", "0-0", "1-01", "+1-1", "1- 1", "1.0-1", "0x1-1", "1-99999999999999999999",
    "99999999999999999999-1", "9223372036854775807-0", "1-9223372036854775807", "999999-1", "1-1000000", "{}", "%", "null", "\u0661-\u0661", "🔔",
    "a" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("position", BAD_POSITIONS, ids=lambda text: text[:24])
@pytest.mark.parametrize("where", ["header", "query"])
def test_resume_point_that_means_nothing_starts_anew(cluster, user, position, where):
    cluster.notify(user)
    if where == "header":
        stream = user.stream(last_event_id=position.encode())
    else:
        stream = Stream(f"{cluster.url}/v1/notifications/sse?" + urllib.parse.urlencode({"last_event_id": position}), user.bearer)
    with stream:
        stream.ready()
        resync = stream.expect("resync")
        assert resync.json == {"last_event_id": resync.id, "unread": 1}
        assert resync.seq == 1
        made = cluster.notify(user)
        block = stream.expect("message")
        assert (block.json["id"], block.seq) == (made["id"], 2)


def test_thousand_changes_are_replayed_and_one_more_is_not(cluster, user):
    start = user.count()["last_event_id"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cluster.notify(user), range(1000)))
    with user.stream(last_event_id=start) as stream:
        assert stream.ready().id == start
        assert [stream.expect("message").seq for _ in range(1000)] == list(range(1, 1001))
        cluster.notify(user)
        assert stream.expect("message").seq == 1001
    with user.stream(last_event_id=start) as stream:
        stream.ready()
        assert stream.expect("resync").json["unread"] == 1001
        cluster.notify(user)
        assert stream.expect("message").seq == 1002


# --- Filters -------------------------------------------------------------------------------------------------------------


def test_filter_hides_others_and_moves_the_position_along(cluster, user):
    with user.stream(customer_id="a") as stream:
        stream.ready()
        cluster.notify(user, customer_id="a")
        cluster.notify(user, customer_id="b")
        cluster.notify(user, customer_id="a")
        first, hidden, last = (stream.next() for _ in range(3))
        assert (first.json["customer_id"], first.json["unread"]) == ("a", 1)
        assert hidden.lines == (f"id: {first.epoch}-2",)
        # "unread" is that of the whole inbox.
        assert (last.json["customer_id"], last.json["unread"], last.seq) == ("a", 3, 3)
        assert stream.last_id == last.id
    with user.stream(customer_id="a", last_event_id=first.id) as stream:
        assert stream.ready().id == first.id
        assert stream.next().lines == (f"id: {first.epoch}-2",)
        assert stream.expect("message").json == last.json


def test_claim_hides_others_and_their_counts(cluster, user):
    limited = type(user)(cluster, user.name, cluster.token(user.name, "--customer", "a"))
    cluster.notify(user, customer_id="a")
    cluster.notify(user, customer_id="b")
    with limited.stream() as stream:
        ready = stream.ready()
        assert (ready.json["unread"], ready.json["unseen"]) == (1, 1)
        theirs = cluster.notify(user, customer_id="b")
        mine = cluster.notify(user, customer_id="a")
        cluster.notify(user)
        user.write("PATCH", f"/{theirs['id']}/read")
        user.write("PATCH", f"/{mine['id']}/read")
        user.write("POST", "/read-all")
        blocks = [stream.next() for _ in range(6)]
        assert [block.seq for block in blocks] == list(range(3, 9))
        assert [block.data is None for block in blocks] == [True, False, False, True, False, False]
        assert [block.json["unread"] for block in blocks if block.data] == [2, 3, 2, 0]
    with limited.stream(last_event_id=ready.id) as stream:
        assert (stream.ready().json["unread"]) == 1
        again = [stream.next() for _ in range(6)]
        assert [(block.id, block.data and block.json["unread"]) for block in again] == [
            (block.id, block.data and block.json["unread"]) for block in blocks
        ]


# --- The connection limit ------------------------------------------------------------------------------------------------

AGENT = {"User-Agent": "EventSource"}


def test_one_stream_too_many_evicts_the_oldest_wherever_it_is(cluster, user):
    streams = []
    try:
        for number in range(10):
            streams.append(user.stream(cluster.edges[number % 2], headers=AGENT))
            streams[-1].ready()
        cluster.notify(user)
        for stream in streams:
            stream.expect("message")
        # The oldest is on the first edge.
        streams.append(user.stream(cluster.edges[1], headers=AGENT))
        streams[-1].ready()
        close = streams[0].expect("close")
        assert (close.retry, close.json, close.id) == (60000, {"reason": "evicted"}, None)
        assert streams[0].end() == []

        eventually("it is remembered", lambda: redis("HLEN", f"carillon:{{{user.name}}}:e") == "1")
        # EventSource comes back by itself, with its position, and is told to stay away; somebody who opens the page again is let in.
        again = user.stream(cluster.edges[1], last_event_id=streams[0].last_id, headers=AGENT)
        assert again.status == 204
        assert again.end() == []
        cluster.notify(user)
        for stream in streams[1:]:
            stream.expect("message")
    finally:
        for stream in streams:
            stream.close()


def test_new_page_evicts_and_closed_streams_do_not_count(cluster, user):
    streams = [user.stream(cluster.edges[number % 2]) for number in range(10)]
    try:
        for stream in streams:
            stream.ready()

        def open_streams():
            text = "".join(cluster.http.get(f"{edge}/metrics").text for edge in cluster.edges)
            return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith("carillon_connections "))

        eventually("only these streams are open", lambda: open_streams() == 10, timeout=60)
        streams.pop(3).close()
        eventually("the closed stream is noticed", lambda: open_streams() == 9)
        # An edge gives the place back before it counts the stream as gone: the next one may not evict anybody.
        streams.append(user.stream(cluster.edges[0]))
        streams[-1].ready()
        cluster.notify(user)
        for stream in streams:
            stream.expect("message")
    finally:
        for stream in streams:
            stream.close()


def test_stream_that_is_silent_is_not_closed(cluster, user):
    """The ping of 30 s keeps proxies from closing it."""
    with user.stream() as stream:
        stream.ready()
        eventually("a ping", lambda: stream.comments, timeout=60)
        assert stream.comments[0].lines == (": ping",)
        assert not stream.is_over
        cluster.notify(user)
        stream.expect("message")
