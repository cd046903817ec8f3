"""Direct events while a server is away."""

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
