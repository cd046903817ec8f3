"""Direct events while a server is away."""

import itertools

from carillon import APIS, EDGES, KEY, Stream, call, eventually, local, new_user, token


def send(user, title="now or never"):
    return call("POST", "/v1/notifications/sse", KEY, base=APIS[0], json={"title": title, "user_id": user})


def test_direct_events_flow_without_postgres_and_not_without_redis():
    user = new_user()
    with Stream(token(user), EDGES[0]) as stream:
        stream.expect("ready")
        assert send(user, "before").status_code == 200
        assert stream.next().data["title"] == "before"
        local("stop", "postgres")
        try:
            for number in range(3):
                assert send(user, f"without Postgres {number}").status_code == 200
                assert stream.next().data["title"] == f"without Postgres {number}"
        finally:
            local("start", "postgres")
        local("stop", "redis")
        try:
            eventually(lambda: send(user).status_code == 503, "503 without Redis")
            assert int(send(user).headers["retry-after"]) >= 1
        finally:
            local("start", "redis")
        # At most once: what is sent before the edge has subscribed again reaches nobody, and says so.
        eventually(lambda: send(user, "after").json().get("edges", 0) > 0, "direct events with Redis back")
        titles = set()
        while "after" not in titles:
            event = stream.next()
            assert event.data.get("ephemeral") is True
            titles.add(event.data["title"])


def test_what_a_user_prefers_holds_although_redis_could_not_tell_it():
    """The node that changes it tells the edges by Redis; without that they learn it from the log."""
    user, other = new_user(), new_user()
    with Stream(token(user), EDGES[0]) as silent, Stream(token(other), EDGES[0]) as stream:
        for each in (silent, stream):
            each.expect("ready")
        local("stop", "redis")
        try:
            answer = call("PUT", "/v1/notifications/preferences", token(user), base=APIS[0], json={"in_app": False})
            assert answer.status_code == 200, answer.text
        finally:
            local("start", "redis")
        numbers = itertools.count()

        def left_out():
            title = f"number {next(numbers)}"
            if any(send(each, title).json().get("edges", 0) == 0 for each in (user, other)):
                return False
            while stream.next().data["title"] != title:
                pass
            assert call("POST", "/v1/notifications/sse", KEY, base=APIS[0], json={"title": f"after {title}", "broadcast": True}).status_code == 200
            seen = []
            while f"after {title}" not in seen:
                seen.append(silent.next().data.get("title"))
            return title not in seen

        eventually(left_out, "the edge to know what is preferred")
        assert left_out()
