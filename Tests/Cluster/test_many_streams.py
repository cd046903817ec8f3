"""What many streams on one edge cost, and how they end."""

import signal
import time

import pytest
import requests

from carillon import PATIENCE, Stream
from crowd import Crowd
from servers import World, until

READERS, USERS = 1000, 500
# 344 KB for each reader, where 64 KiB wait in the process and as much in the socket.
MESSAGES, CONTENT = 80, "x" * 3900
# 64 KiB unsent and what an idle stream costs, twice over for frames that are read from the log for one reader, and the allocator's waste.
BYTES_A_STREAM = 160 * 1024


def stuck_readers(world, crowd, users, each):
    """Connected, and never read until somebody says so. They are to have everything from the first number on, whenever they join."""
    before = world.edges[0].metrics()["carillon_connections"]
    epoch = world.get(users[0], "/count")["last_event_id"].split("-")[0]
    members = [(user, crowd.join(world.token(user), f"{epoch}-0", read=False)) for user in users for _ in range(each)]
    until(lambda: world.edges[0].metrics()["carillon_streams_opened_total"] >= before + len(members), "the readers to be connected")
    return members


def test_a_thousand_stuck_readers_cost_bounded_memory_and_hold_nobody_up():
    settings = {"CARILLON_STALLED_SECONDS": "600", "CARILLON_PING_SECONDS": "600"}
    with World(edge_settings=settings) as world, Crowd(world.edges[0].url, receive_buffer=4096) as crowd:
        [edge] = world.edges
        others = [world.user("other") for _ in range(5)]
        streams = [world.stream(user) for user in others]
        try:
            for stream in streams:
                stream.expect("ready")
            users = [world.user("stuck") for _ in range(USERS)]
            members = stuck_readers(world, crowd, users, READERS // USERS)
            before = peak = edge.memory()
            for number in range(MESSAGES):
                world.notify(users, title=str(number), content=CONTENT)
                peak = max(peak, edge.memory())
                # Nobody else waits for those who do not read.
                made = world.notify(others, title=str(number))
                for stream, entry in zip(streams, made):
                    event = stream.expect("message")
                    assert event.data["id"] == entry["id"] and event.data["seq"] == number + 1
            until(lambda: edge.metrics()["carillon_lagging_connections"] == READERS, "all of them to be set aside")
            peak = max(peak, edge.memory())
            print(f"{READERS} stuck readers: {(peak - before) / READERS / 1024:.1f} KiB resident for each")
            assert peak - before < READERS * BYTES_A_STREAM, f"{peak - before} bytes for {READERS} readers"

            # They read again: everything is there, in order.
            for _, member in members:
                crowd.read(member)
            titles = [str(number) for number in range(MESSAGES)]
            crowd.until(
                lambda: all(len(member.events) > MESSAGES or not member.is_open for _, member in members), "the readers to catch up", 120)
            for _, member in members:
                assert member.is_open and [name for name, _, _ in member.events] == ["ready"] + ["message"] * MESSAGES
                assert member.seqs == list(range(1, MESSAGES + 1))
                assert [message["title"] for message in member.messages] == titles
            until(lambda: edge.metrics()["carillon_lagging_connections"] == 0, "nobody to be behind")
            # What is read from the log for them passes through, some of it twice.
            print(f"{READERS} readers that caught up: {(edge.memory() - before) / READERS / 1024:.1f} KiB resident for each")
            assert edge.memory() - before < 2 * READERS * BYTES_A_STREAM
            world.notify(users, title="live")
            crowd.until(lambda: all(member.messages[-1]["title"] == "live" for _, member in members), "what is new", 60)
        finally:
            for stream in streams:
                stream.close()


@pytest.mark.parametrize("moment", ["before it is closed", "after it is closed"])
def test_a_reader_that_stays_stuck_is_closed_with_a_reason(moment):
    """Whoever reads what was sent to it finds at its end why there is no more."""
    # A stream is looked at when it is due for a ping: that is how late its end may be.
    with World(edge_settings={"CARILLON_STALLED_SECONDS": "60" if moment.startswith("before") else "5", "CARILLON_PING_SECONDS": "2"}) as world:
        [edge] = world.edges
        with Crowd(edge.url, receive_buffer=4096) as crowd:
            users = [world.user("stuck") for _ in range(20)]
            members = [member for _, member in stuck_readers(world, crowd, users, 1)]
            for number in range(MESSAGES):
                world.notify(users, title=str(number), content=CONTENT)

            def are_set_aside():
                figures = edge.metrics()
                return figures["carillon_lagging_connections"] + figures["carillon_streams_stalled_total"] >= len(members)

            until(are_set_aside, "all of them to be set aside")
            if moment == "before it is closed":
                # It reads again in time: it is not closed, for it was not stuck for so long.
                for member in members:
                    crowd.read(member)
                crowd.until(lambda: all(len(member.events) > MESSAGES for member in members), "the readers to catch up", 60)
                assert edge.metrics()["carillon_streams_stalled_total"] == 0
                assert all(member.is_open and member.seqs == list(range(1, MESSAGES + 1)) for member in members)
                return
            until(lambda: edge.metrics()["carillon_streams_stalled_total"] == len(members), "the stuck ones to be closed")
            until(lambda: edge.metrics()["carillon_connections"] == 0, "their places to be free")
            for member in members:
                crowd.read(member)
            crowd.until(lambda: not any(member.is_open for member in members), "the ends of the streams", 60)
            for member in members:
                # No hole in what it got; and it can resume, since it was told how far it is.
                assert member.seqs == list(range(1, len(member.seqs) + 1))
                assert 0 < len(member.seqs) < MESSAGES
            told = [member for member in members if member.reason == "stalled"]
            assert len(told) == len(members), f"{len(told)} of {len(members)} were told; another ended with {members[0].events[-1][:2]}"
            assert all(member.retry >= 500 for member in members)
            with world.stream(users[0], last=members[0].last) as again:
                again.expect("ready")
                assert again.expect("message").data["seq"] == len(members[0].seqs) + 1


def test_ten_thousand_streams_drain_over_the_window():
    streams, each, window = 10_000, 10, 20
    with World(edge_settings={"CARILLON_DRAIN_SECONDS": str(window)}) as world, Crowd(world.edges[0].url) as crowd:
        [edge] = world.edges
        texts = [world.token(world.user("drained")) for _ in range(streams // each)]
        members = crowd.join_all(texts * each)
        assert edge.metrics()["carillon_connections"] == streams

        begun = time.monotonic()
        edge.signal(signal.SIGTERM)
        answer = until(lambda: (found := requests.get(edge.url + "/health/ready", timeout=PATIENCE)).status_code == 503 and [found], "503")[0]
        assert answer.json()["status"] == "draining"
        assert sum(member.is_open for member in members) > streams // 2, "it says so at once"
        with Stream(texts[0], edge.url) as fresh:
            assert fresh.status == 200 and fresh.headers["content-type"].startswith("text/event-stream")
            assert fresh.expect("close").data == {"reason": "draining"} and fresh.retry >= 500
            assert fresh.next() is None
        crowd.until(lambda: not any(member.is_open for member in members), "the end of all streams", window + 5)
        assert edge.wait(max(1, begun + window + 5 - time.monotonic())) == 0
        for member in members:
            assert [name for name, _, _ in member.events] == ["ready", "close"] and member.reason == "draining", member.events
        quarters = [0] * 4
        for member in members:
            quarters[min(3, int((member.ended - begun) / window * 4))] += 1
        print(f"closed in each quarter of the window: {quarters}")
        assert all(streams / 10 <= count <= streams / 2 for count in quarters), quarters
        retries = [member.retry for member in members]
        assert min(retries) >= 500 and max(retries) - min(retries) >= 1000 and len(set(retries)) > 500
