"""What administrators do to streams on several edges, also while something is away."""

import contextlib
import signal

import requests

from carillon import PATIENCE, bearer
from servers import World, until


@contextlib.contextmanager
def administered(**shape):
    with World(edges=2, **shape) as world:
        world.admin_key = world.carillon("apikey", "create", "--name", "admin", "--scopes", "admin")
        yield world


def ask(world, method, path, **parameters):
    return requests.request(
        method, world.apis[0].url + "/v1/admin" + path, headers=bearer(world.admin_key), params=parameters, timeout=PATIENCE)


@contextlib.contextmanager
def streams_of(world, user, count=2):
    """So many on each edge."""
    streams = [world.stream(user, edge) for edge in (0, 1) for _ in range(count)]
    try:
        for stream in streams:
            stream.expect("ready")
        yield streams
    finally:
        for stream in streams:
            stream.close()


def test_a_disconnect_reaches_every_edge():
    with administered() as world:
        user, other = world.user(), world.user("other")
        with streams_of(world, user, 3) as streams, streams_of(world, other) as others:
            assert ask(world, "GET", "/connections", user_id=user).json()["connections"] == 6
            answer = ask(world, "POST", f"/users/{user}/disconnect")
            assert answer.status_code == 200 and answer.json() == {"disconnected": 6}
            for stream in streams:
                assert stream.expect("close").data == {"reason": "disconnected"} and stream.next() is None
                assert 500 <= stream.retry <= 2500
            until(lambda: ask(world, "GET", "/connections", user_id=user).json()["connections"] == 0, "the places to be free")
            made = world.notify([user, other])[1]["id"]
            for stream in others:
                assert stream.expect("message").data["id"] == made
            # Its clients come back and miss nothing.
            with world.stream(user, 1, last=streams[0].last) as again:
                again.expect("ready")
                assert again.expect("message").data["seq"] == 1


def test_an_edge_that_stands_still_is_named_and_one_that_died_is_gone():
    with administered() as world:
        user = world.user()
        with streams_of(world, user) as streams:
            world.edges[1].pause()
            answer = ask(world, "POST", f"/users/{user}/disconnect")
            assert answer.status_code == 503 and "edge-2" in answer.json()["detail"] and answer.headers["retry-after"], answer.text
            for stream in streams[:2]:
                assert stream.expect("close").data == {"reason": "disconnected"}
            world.edges[1].resume()
            # What it was asked, it does.
            for stream in streams[2:]:
                assert stream.expect("close").data == {"reason": "disconnected"}
        with streams_of(world, user, 1):
            world.edges[1].kill()

            def shown():
                found = ask(world, "GET", "/connections").json()
                return [edge["node"] for edge in found["edges"]] == ["edge-1"] and found["connections"] == 1 and found

            assert until(shown, "the dead edge to be forgotten")["data"][0]["user_id"] == user
            assert [row["node"] for row in ask(world, "GET", "/connections", user_id=user).json()["data"]] == ["edge-1"]
            assert ask(world, "POST", f"/users/{user}/disconnect").json() == {"disconnected": 1}


def test_an_edge_that_was_stopped_is_gone_at_once():
    with administered(edge_settings={"CARILLON_DRAIN_SECONDS": "0"}) as world:
        user = world.user()
        with streams_of(world, user, 1):
            assert len(ask(world, "GET", "/connections").json()["edges"]) == 2
            world.edges[1].signal(signal.SIGTERM)
            assert world.edges[1].wait(30) == 0
            found = ask(world, "GET", "/connections").json()
            assert [(edge["node"], edge["connections"]) for edge in found["edges"]] == [("edge-1", 1)] and found["connections"] == 1
            assert ask(world, "POST", f"/users/{user}/disconnect").json() == {"disconnected": 1}


def test_without_redis_nobody_knows_who_is_connected():
    with administered() as world:
        user = world.user()
        with streams_of(world, user, 1) as streams:
            world.redis.kill()
            until(lambda: not world.apis[0].health()[1]["redis"], "the node to notice")
            for method, path in (("GET", "/connections"), ("GET", f"/connections?user_id={user}"), ("POST", f"/users/{user}/disconnect")):
                answer = ask(world, method, path)
                assert answer.status_code == 503 and answer.json()["code"] == "notifications_m.unavailable" and answer.headers["retry-after"]
            # An erasure needs Postgres alone: the commit tail tells the streams.
            world.notify(user)
            for stream in streams:
                stream.expect("message")
            assert ask(world, "DELETE", f"/users/{user}").status_code == 204
            for stream in streams:
                event = stream.expect("resync")
                assert event.id == "2-2" and event.data["unread"] == 0
            world.redis.start()
            until(lambda: world.apis[0].health()[1]["redis"], "Redis to be back")
            # No copy of a count of before is shown.
            until(lambda: world.get(user, "/count")["last_event_id"] == "2-2", "the erasure's position")
            assert world.get(user, "/count")["unread"] == 0
            until(lambda: all(edge.health()[1]["redis"] for edge in world.edges), "the edges to be whole")
            made = world.notify(user)
            for stream in streams:
                event = stream.expect("message")
                assert event.data["id"] == made["id"] and event.data["unread"] == 1 and event.id == "2-3"


def test_a_large_inbox_is_erased_under_open_streams_while_others_write():
    with administered() as world:
        user, other = world.user(), world.user("other")
        # As 3,400 notifications would leave it.
        world.notify(user)
        world.postgres.sql(
            f"""
            BEGIN;
            INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, created_at, body)
            SELECT user_id, gen_random_uuid(), n, n, level, priority, type, created_at, body FROM notifications, generate_series(2, 3400) n WHERE user_id = '{user}';
            UPDATE heads SET seq = 3400, unread = 3400, unseen = 3400, counts = jsonb_build_object(
                E'\\x1fSYSTEM', '[3400, 3400]'::jsonb, E'\\x1f', '[3400, 3400]'::jsonb) WHERE user_id = '{user}';
            COMMIT
            """, "carillon")
        with streams_of(world, user, 1) as streams, streams_of(world, other, 1) as others:
            assert ask(world, "DELETE", f"/users/{user}").status_code == 204
            head = world.get(user)
            assert head["data"] == [] and head["unread"] == 0 and head["unseen"] == 0
            for stream in streams:
                while (event := stream.expect("resync")).id != head["last_event_id"]:
                    assert event.data["unread"] in (2400, 1400, 400)
                assert event.data["unread"] == 0
            made = world.notify([user, other])
            assert made[0]["seq"] == int(head["last_event_id"].split("-")[1]) + 1
            for stream in streams:
                assert stream.expect("message").data["id"] == made[0]["id"]
            for stream in others:
                assert stream.expect("message").data["id"] == made[1]["id"]
        assert world.postgres.sql(f"SELECT count(*) FROM changes WHERE user_id = '{user}'", "carillon") == "2"
