"""A user's ten places across edges of which one dies, or stands still for a while."""

import time

import pytest

from carillon import Stream
from servers import World, until

LIMIT = 10
USER_AGENT = {"User-Agent": "EventSource of a test"}


def open_all(world, user, edge, count=LIMIT, ready=True):
    streams = [world.stream(user, edge, headers=USER_AGENT) for _ in range(count)]
    if ready:
        for stream in streams:
            stream.expect("ready")
    return streams


def close_all(streams):
    for stream in streams:
        stream.close()


def names(stream):
    """Of what has come and was not asked for yet; None is the end."""
    found = []
    while not stream.events.empty():
        event = stream.events.get()
        found.append(event and event.name)
    return found


def test_the_places_of_a_killed_edge_are_free_within_three_seconds():
    """In the mode that refuses, where a place that is still held is seen as a 429."""
    with World(edges=2, settings={"CARILLON_CONNECTION_LIMIT_MODE": "refuse"}) as world:
        user, streams = world.user(), []
        try:
            streams += open_all(world, user, 1)
            with Stream(world.token(user), world.edges[0].url, read=False) as refused:
                assert refused.status == 429 and refused.headers["retry-after"]
            world.edges[1].kill()
            killed = time.monotonic()
            fresh = []

            def all_ten():
                while len(fresh) < LIMIT:
                    stream = world.stream(user, 0)
                    if stream.status != 200:
                        stream.close()
                        return False
                    fresh.append(stream)
                    streams.append(stream)
                return True

            until(all_ten, "ten places, three seconds after the edge died")
            print(f"ten places after {time.monotonic() - killed:.1f} s")
            for stream in fresh:
                stream.expect("ready")
            with Stream(world.token(user), world.edges[0].url, read=False) as refused:
                assert refused.status == 429
        finally:
            close_all(streams)


def test_streams_that_replace_a_killed_edge_s_are_not_evicted():
    with World(edges=2) as world:
        user, streams = world.user(), []
        try:
            # Those who stay are the oldest: they would go first if the dead ones still counted.
            staying = open_all(world, user, 0, 5)
            dying = open_all(world, user, 1, 5)
            streams += staying + dying
            for number in range(3):
                world.notify(user)
            for stream in staying + dying:
                assert [stream.expect("message").data["seq"] for _ in range(3)] == [1, 2, 3]
            world.edges[1].kill()
            for stream in dying:
                assert stream.next() is None
            # The promise is three seconds; looking earlier would take a place.
            time.sleep(6)
            fresh = open_all(world, user, 0, 5)
            streams += fresh
            # One more: now the oldest goes, and only that.
            streams += open_all(world, user, 0, 1)
            assert staying[0].expect("close").data == {"reason": "evicted"} and staying[0].next() is None
            world.notify(user)
            for stream in staying[1:] + fresh:
                assert stream.expect("message").data["seq"] == 4
        finally:
            close_all(streams)


def test_ten_streams_move_at_once_from_a_killed_edge():
    with World(edges=2) as world:
        user, streams = world.user(), []
        try:
            streams += open_all(world, user, 1)
            last = streams[0].last
            world.edges[1].kill()
            # As EventSource comes back: at once, with its position.
            fresh = [Stream(world.token(user), world.edges[0].url, last=last, headers=USER_AGENT) for _ in range(LIMIT)]
            streams += fresh
            for stream in fresh:
                stream.expect("ready")
            # Beyond the time after which the dead edge's leases are dropped.
            for _ in range(8):
                world.notify(user)
                time.sleep(1)
            for stream in fresh:
                assert [stream.expect("message").data["seq"] for _ in range(8)] == list(range(1, 9))
                assert names(stream) == []
        finally:
            close_all(streams)


@pytest.mark.parametrize("age", ["just started", "settled"])
def test_an_edge_that_stood_still_gives_up_the_places_that_others_took(age):
    with World(edges=2) as world:
        if age == "settled":
            # One probe and one heartbeat a second.
            until(lambda: world.edges[1].metrics()["carillon_redis_canary_seconds_count"] >= 4, "some heartbeats")
        user, streams = world.user(), []
        other = world.user("other")
        try:
            old = open_all(world, user, 1)
            staying = open_all(world, other, 1, 3)
            streams += old + staying
            before = world.notify(user)["id"]
            for stream in old:
                assert stream.expect("message").data["id"] == before
            world.edges[1].pause()
            stopped = time.monotonic()
            # Three seconds later it counts as dead.
            time.sleep(5)
            new = open_all(world, user, 0)
            streams += new
            during = world.notify([user, other], title="during the stop")
            for stream in new:
                assert stream.expect("message").data["id"] == during[0]["id"]
            time.sleep(max(0, stopped + 10 - time.monotonic()))
            assert all(names(stream) == [] for stream in old)

            world.edges[1].resume()
            resumed = time.monotonic()
            until(
                lambda: sum(stream.events.empty() or stream.events.queue[-1] is not None for stream in old + new) <= LIMIT,
                "ten streams to be left, two seconds after it goes on")
            print(f"ten streams are left after {time.monotonic() - resumed:.1f} s")
            # They are told so before anything else: what was sent meanwhile was for the ones that had their places.
            told = [names(stream) for stream in old]
            assert told == [["close", None]] * LIMIT, told
            assert all(stream.retry == 60000 for stream in old)
            assert all(names(stream) == [] for stream in new)
            # Whose place nobody took stays, and misses nothing.
            for stream in staying:
                assert stream.expect("message").data["id"] == during[1]["id"]
            after = world.notify([user, other])
            for stream in new:
                assert stream.expect("message").data["id"] == after[0]["id"]
            for stream in staying:
                assert stream.expect("message").data["id"] == after[1]["id"]
        finally:
            world.edges[1].resume()
            close_all(streams)


@pytest.mark.parametrize("edge", [0, 1])
def test_an_evicted_event_source_is_told_to_give_up(edge):
    with World(edges=2) as world:
        user, streams = world.user(), []
        try:
            world.notify(user)
            streams += open_all(world, user, 0)
            world.notify(user)
            for stream in streams:
                stream.expect("message")
            streams += open_all(world, user, 1, 1)
            first = streams[0]
            assert first.expect("close").data == {"reason": "evicted"} and first.retry == 60000 and first.next() is None
            with Stream(world.token(user), world.edges[edge].url, last=first.last, headers=USER_AGENT, read=False) as again:
                assert again.status == 204
            # Nobody went for it.
            made = world.notify(user)["id"]
            for stream in streams[1:]:
                assert stream.expect("message").data["id"] == made
            # A page that is loaded anew is no automatic reconnect: it takes a place.
            streams.append(Stream(world.token(user), world.edges[edge].url, headers=USER_AGENT))
            streams[-1].expect("ready")
            assert streams[1].expect("close").data == {"reason": "evicted"}
        finally:
            close_all(streams)


def test_ten_evicted_event_sources_are_all_told_to_give_up():
    """Ten tabs of one browser are alike in all that they send, and are evicted together: none may come back and evict another."""
    with World(edges=2) as world:
        user, streams = world.user(), []
        try:
            old = open_all(world, user, 0)
            streams += old
            new = open_all(world, user, 1)
            streams += new
            for stream in old:
                assert stream.expect("close").data == {"reason": "evicted"}
            assert len({stream.last for stream in old}) == 1
            answers = []
            for stream in old:
                with Stream(world.token(user), world.edges[0].url, last=stream.last, headers=USER_AGENT, read=False) as again:
                    answers.append(again.status)
            assert answers == [204] * LIMIT
            world.notify(user)
            assert [stream.expect("message").data["seq"] for stream in new] == [1] * LIMIT
        finally:
            close_all(streams)
