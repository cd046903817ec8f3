"""A Redis that is there and does not do its work: it hangs, it loads its data, it takes no writes."""

import contextlib
import time

import pytest

from carillon import Stream
from servers import PATIENCE, World, until

# What the promise of two seconds is held against, on a busy machine.
DELIVERY = 8
# What the promise of ten seconds is held against.
NORMAL = 30


@contextlib.contextmanager
def hung(world):
    world.redis.pause()
    try:
        yield
    finally:
        world.redis.resume()


@contextlib.contextmanager
def loading(world):
    """It answers LOADING to everything, until it is let go on."""
    redis = world.redis
    for begin in range(0, 20000, 1000):
        redis.cli("MSET", *[word for number in range(begin, begin + 1000) for word in (f"filler-{number}", "x")])
    redis.cli("SAVE")
    redis.kill()
    # Some milliseconds for each key: it loads for as long as the test needs, and answers in between.
    redis.start("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024", wait=False)
    until(lambda: "LOADING" in redis.cli("PING"), "Redis to load")
    yield
    assert "LOADING" in redis.cli("PING"), "the trouble was to last as long as the test looked"
    redis.cli("CONFIG", "SET", "key-load-delay", "0")
    until(lambda: redis.cli("PING") == "PONG", "Redis to have loaded")


@contextlib.contextmanager
def read_only(world):
    """A replica of nobody: it answers reads with what it has, and every write with READONLY."""
    world.redis.cli("REPLICAOF", "127.0.0.1", "1")
    assert "READONLY" in world.redis.cli("SET", "x", "y")
    yield
    world.redis.cli("REPLICAOF", "NO", "ONE")


TROUBLES = {"hung": hung, "loading": loading, "read-only": read_only}


def in_order(stream, count, after, patience):
    """The next `count` changes, each by its number and with its count; answers the ids."""
    ids = []
    for number in range(after + 1, after + count + 1):
        event = stream.expect("message", patience)
        assert event.data["seq"] == event.data["unread"] == number
        ids.append(event.data["id"])
    return ids


@pytest.mark.parametrize("trouble", TROUBLES)
def test_writes_and_streams_go_on(trouble):
    with World(apis=2, edges=2, workers=1) as world, contextlib.ExitStack() as opened:
        user, newcomer = world.user(), world.user("newcomer")
        streams = [opened.enter_context(world.stream(user, edge)) for edge in range(2)]
        for stream in streams:
            stream.expect("ready")
        made = [world.notify(user)["id"]]
        for stream in streams:
            assert in_order(stream, 1, 0, PATIENCE) == made
        assert world.get(user, "/count")["unread"] == 1

        with TROUBLES[trouble](world):
            begun = time.monotonic()
            # From the first moment on, and once everybody knows.
            for number in range(1, 9):
                made.append(world.notify(user, api=number % 2)["id"])
                for stream in streams:
                    assert in_order(stream, 1, number, DELIVERY) == made[-1:]
                for api in range(2):
                    assert world.get(user, "/count", api=api)["unread"] == number + 1
                time.sleep(max(0, begun + number - time.monotonic()))
            assert all(not stream.events.qsize() for stream in streams)

            # A new stream is let in and resumes; a user who was not there before is, too.
            with Stream(world.token(user), world.edges[0].url, last=streams[0].last.split("-")[0] + "-0") as again:
                again.expect("ready")
                assert in_order(again, 9, 0, DELIVERY) == made
            streams.append(opened.enter_context(world.stream(newcomer, 1)))
            streams[-1].expect("ready")
            entry = world.notify(newcomer)
            assert streams.pop().expect("message", DELIVERY).data["id"] == entry["id"]

            # Each says what it lacks, and that it is of use all the same.
            for node in world.nodes:
                def says_so(node=node):
                    status, body = node.health()
                    return status == 200 and body["status"] == "degraded" and body["postgres"] is True and body["redis"] is False

                until(says_so, f"{node.name} to say that it has no Redis; it says {node.health()}", 15)

        for node in world.nodes:
            until(node.is_whole, f"{node.name} to be whole again; it says {node.health()}", NORMAL)
        for number in range(9, 14):
            made.append(world.notify(user, api=number % 2)["id"])
            for stream in streams:
                assert in_order(stream, 1, number, PATIENCE) == made[-1:]
        for api in range(2):
            assert world.get(user, "/count", api=api)["unread"] == 14
        # Redis itself brings them again, not the log.
        before = world.edges[0].metrics()["carillon_redis_messages_total"]
        world.notify(user)
        for stream in streams:
            in_order(stream, 1, 14, PATIENCE)
        assert world.edges[0].metrics()["carillon_redis_messages_total"] > before
        # And the limit holds again, for streams of before as well.
        places = [opened.enter_context(world.stream(user, number % 2)) for number in range(8)]
        for stream in places:
            stream.expect("ready")
        until(
            lambda: world.redis.cli("ZCARD", f"carillon:{{{user}}}:l") == "10", "ten leases; Redis has " + world.redis.cli("KEYS", "*:l"), NORMAL)
        opened.enter_context(world.stream(user)).expect("ready")
        assert streams[0].expect("close").data == {"reason": "evicted"}
        for node in world.nodes:
            assert node.metrics().get("carillon_unread_drift_total", 0) == 0


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_is_lost_or_doubled_while_it_comes_and_goes(trouble):
    with World(apis=2, edges=2) as world, contextlib.ExitStack() as opened:
        user = world.user()
        streams = [opened.enter_context(world.stream(user, edge)) for edge in range(2)]
        for stream in streams:
            stream.expect("ready")
        count = 0

        def write_for(seconds):
            nonlocal count
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                world.notify(user, api=count % 2)
                count += 1

        for _ in range(2):
            write_for(1)
            with TROUBLES[trouble](world):
                write_for(4)
            write_for(2)
        for stream in streams:
            in_order(stream, count, 0, PATIENCE)
            assert not stream.events.qsize()
        for node in world.nodes:
            until(node.is_whole, f"{node.name} to be whole again; it says {node.health()}", NORMAL)
        for api in range(2):
            assert world.get(user, "/count", api=api)["unread"] == count


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_count_is_not_that_of_before_the_trouble(trouble):
    """The copy that Redis kept missed what was written meanwhile. It is not served, however soon somebody asks."""
    with World(apis=2, edges=1, workers=1) as world:
        users = [world.user() for _ in range(5)]
        world.notify(users)
        for user in users:
            for api in range(2):
                assert world.get(user, "/count", api=api)["unread"] == 1
        wrong = []

        def ask(when):
            for number, user in enumerate(users):
                for api in range(2):
                    unread = world.get(user, "/count", api=api)["unread"]
                    if unread != 2:
                        wrong.append((when, number, f"api-{api + 1}", unread))

        with TROUBLES[trouble](world):
            # Long enough for everybody to know; all written before that would be published once Redis goes on.
            until(lambda: any(not node.health()[1]["redis"] for node in world.apis) or trouble == "read-only", "the nodes to notice", 15)
            world.notify(users)
            ask("during it")
        ended = time.monotonic()
        while time.monotonic() < ended + 10:
            ask(f"{time.monotonic() - ended:.1f} s after it")
        assert wrong == [], f"{len(wrong)} wrong counts, from {wrong[:3]} to {wrong[-1]}"
