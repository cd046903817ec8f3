"""Notify and the inbox's routes, through the load balancer."""

import time
import uuid

import pytest

from carillon import APIS, EDGES, KEY, URL, bearer, call, eventually, forged, new_user, notify, problem, token


@pytest.fixture
def user():
    return new_user()


@pytest.fixture
def jwt(user):
    return token(user)


def test_all_fields_come_back(user, jwt):
    fields = {
        "type": "chat", "event": "message_received", "content": "line one\nline two", "level": "WARNING", "priority": "HIGH",
        "link_url": "https://example.com/a", "link_text": "Open", "customer_id": "c 1", "rec_type": "order", "rec_id": "17",
        "data": {"n": 1.50, "deep": [{"x": None}]},
    }
    made = notify(user, "All", **fields)[0]
    item = call("GET", f"/v1/notifications/{made['id']}", jwt).json()
    for name, value in fields.items():
        assert item[name] == value
    assert (item["title"], item["seq"], item["read"], item["seen"], item["archived"]) == ("All", 1, False, False, False)
    assert item["created_at"].endswith("Z") and item["expires_at"] is None and item["read_at"] is None


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/api"])
def test_three_prefixes_reach_the_same_routes(user, jwt, prefix):
    answer = call("POST", prefix + "/internal/notify", KEY, json={"body": "b", "title": "t", "userId": user, "link": "/x"})
    assert answer.status_code == 201
    page = call("GET", prefix + "/notifications", jwt).json()
    assert page["data"][0]["content"] == "b" and page["data"][0]["link_url"] == "/x"
    assert page["unread"] == 1 and page["last_event_id"].endswith("-1")
    assert call("GET", prefix + "/notifications/count", jwt).json()["unread"] == 1


def test_flags_reading_and_deleting(user, jwt):
    first, second, third = (notify(user, str(n))[0]["id"] for n in range(3))
    item = call("PATCH", f"/v1/notifications/{first}/read", jwt).json()
    assert item["read"] and item["seen"] and item["read_at"] and item["seq"] == 4
    again = call("POST", f"/v1/notifications/{first}/read", jwt, json={}).json()
    assert again["seq"] == 4, "a write that changes nothing takes no number"
    assert call("PATCH", f"/v1/notifications/{first}/read", jwt, json={"read": False}).json()["read"] is False
    assert call("PATCH", f"/v1/notifications/{second}", jwt, json={"archived": True}).json()["read"] is True
    assert [item["id"] for item in call("GET", "/v1/notifications?archived=true", jwt).json()["data"]] == [second]
    seen = call("POST", "/v1/notifications/seen", jwt).json()
    assert seen["unseen"] == 0 and seen["unread"] == 2
    assert call("DELETE", f"/v1/notifications/{third}", jwt).status_code == 204
    problem(call("DELETE", f"/v1/notifications/{third}", jwt), 404, "not_found")
    answer = call("PATCH", "/v1/notifications/read-all", jwt).json()
    assert answer["updated"] == 1 and answer["unread"] == 0
    count = call("GET", "/v1/notifications/count", jwt).json()
    assert (count["unread"], count["unseen"], count["by_type"]) == (0, 0, {})
    assert count["last_event_id"] == answer["last_event_id"]


def test_read_all_with_filters(user, jwt):
    for number in range(6):
        notify(user, str(number), type=["chat", "task"][number % 2], customer_id=["a", "b", "c"][number % 3])
    answer = call("POST", "/v1/notifications/read-all", jwt, json={"type": "chat"}).json()
    assert (answer["updated"], answer["unread"]) == (3, 3)
    answer = call("POST", "/v1/notifications/read-all", jwt, json={"customer_id": "b"}).json()
    assert (answer["updated"], answer["unread"]) == (1, 2)
    count = call("GET", "/v1/notifications/count", jwt).json()
    assert count["unread"] == 2 and count["by_type"] == {"task": 2}
    fresh = notify(user, "last")[0]["id"]
    notify(user, "after")
    answer = call("POST", "/v1/notifications/read-all", jwt, json={"up_to": fresh}).json()
    assert answer["unread"] == 1


def test_paging_shows_everything_once(user, jwt):
    ids = [notify(user, str(number))[0]["id"] for number in range(25)]
    for read in ids[5:15]:
        call("PATCH", f"/v1/notifications/{read}/read", jwt)
    newest = list(reversed(ids))
    unread_first = [i for i in newest if i not in ids[5:15]] + [i for i in newest if i in ids[5:15]]
    for order, expected in (("newest", newest), ("unread_first", unread_first)):
        got, after = [], None
        while True:
            page = call("GET", f"/v1/notifications?limit=7&order={order}" + (f"&after={after}" if after else ""), jwt)
            got += [item["id"] for item in page.json()["data"]]
            after = page.json()["page"]["next"]
            if after is None:
                break
            assert 'rel="next"' in page.headers["link"]
        assert got == expected
        offset = call("GET", f"/v1/notifications?limit=7&offset=7&order={order}", jwt).json()["data"]
        assert [item["id"] for item in offset] == expected[7:14]
    unread = call("GET", "/v1/notifications?status=unread&limit=200", jwt).json()["data"]
    assert [item["id"] for item in unread] == unread_first[:15]
    read = call("GET", "/v1/notifications?status=read", jwt).json()["data"]
    assert sorted(item["id"] for item in read) == sorted(ids[5:15])


def test_an_unchanged_list_is_304(user, jwt):
    notify(user)
    first = call("GET", "/v1/notifications", jwt)
    again = call("GET", "/v1/notifications", jwt, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    notify(user)
    assert call("GET", "/v1/notifications", jwt, headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_collapse_schedule_and_expiry(user, jwt):
    notify(user, "old", collapse_key="k")
    notify(user, "new", collapse_key="k")
    assert [item["title"] for item in call("GET", "/v1/notifications", jwt).json()["data"]] == ["new"]
    now = time.time()
    at = lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds))
    scheduled = notify(user, "scheduled", deliver_at=at(6))[0]
    assert scheduled["seq"] is None
    problem(call("GET", f"/v1/notifications/{scheduled['id']}", jwt), 404, "not_found")
    notify(user, "short", expires_at=at(12))
    eventually(lambda: call("GET", f"/v1/notifications/{scheduled['id']}", jwt).status_code == 200, "the scheduled one")
    eventually(
        lambda: sorted(i["title"] for i in call("GET", "/v1/notifications", jwt).json()["data"]) == ["new", "scheduled"], "the expiry")
    eventually(lambda: call("GET", "/v1/notifications/count", jwt).json()["unread"] == 2, "the count after it")
    problem(call("POST", "/v1/internal/notify", KEY, json={"title": "x", "user_id": user, "expires_at": at(-5)}), 422, "invalid_body")


@pytest.mark.parametrize("odd", ["{}", "a/b", "100%", "a:b", "🔔 bell", "é", "e\u0301"])
def test_user_ids_are_opaque(odd):
    user = odd + uuid.uuid4().hex
    made = notify(user)[0]
    assert made["user_id"] == user
    assert call("GET", f"/v1/notifications/{made['id']}", token(user)).json()["id"] == made["id"]


def test_another_users_notification_does_not_exist(user, jwt):
    other = notify(new_user())[0]["id"]
    for method, path, body in [
        ("GET", "", None), ("DELETE", "", None), ("PATCH", "", {"read": True}), ("PATCH", "/read", None), ("POST", "/read", None)
    ]:
        problem(call(method, f"/v1/notifications/{other}{path}", jwt, json=body), 404, "not_found")
    problem(call("POST", "/v1/notifications/read-all", jwt, json={"up_to": other}), 404, "not_found")


def test_a_token_of_some_customers_sees_only_theirs(user):
    limited = token(user, "--customer", "a")
    hidden = notify(user, "hidden", customer_id="b")[0]["id"]
    shown = notify(user, "shown", customer_id="a")[0]["id"]
    page = call("GET", "/v1/notifications", limited).json()
    assert [item["id"] for item in page["data"]] == [shown] and page["unread"] == 1
    assert call("GET", "/v1/notifications/count", limited).json()["unread"] == 1
    problem(call("GET", f"/v1/notifications/{hidden}", limited), 404, "not_found")
    problem(call("DELETE", f"/v1/notifications/{hidden}", limited), 404, "not_found")
    problem(call("GET", "/v1/notifications?customer_id=b", limited), 403, "forbidden")
    assert call("POST", "/v1/notifications/read-all", limited).json()["updated"] == 1
    assert call("GET", "/v1/notifications/count", token(user)).json()["unread"] == 1


@pytest.mark.parametrize("body, status, code", [
    ("{", 400, "invalid_body"), ("", 400, "invalid_body"), (b"\xff\xfe", 400, "invalid_body"), ("[]", 422, "invalid_body"),
    ('{"user_id":"u"}', 422, "invalid_body"), ('{"title":"t"}', 422, "invalid_body"), ('{"title":1,"user_id":"u"}', 422, "invalid_body"),
    ('{"title":"t","user_ids":"u"}', 422, "invalid_body"), ('{"title":"t","user_ids":[]}', 422, "invalid_body"),
    ('{"title":"t","user_ids":["ok",""]}', 422, "invalid_body"), ('{"title":"t","user_id":"u","type":"nope"}', 422, "invalid_group"),
    ('{"title":"t","user_id":"u","type":"chat","event":"nope"}', 422, "invalid_event"),
    ('{"title":"t","user_id":"u","channels":["pigeon"]}', 422, "invalid_channel"),
    ('{"title":"t","user_id":"u","level":"LOUD"}', 422, "invalid_body"), ('{"title":"t","user_id":"u","data":[]}', 422, "invalid_body"),
    ('{"title":"t","user_id":"u","link_url":"javascript:alert(1)"}', 422, "invalid_body"),
    ('{"title":"%s","user_id":"u"}' % ("x" * 201), 422, "invalid_body"),
    ('{"title":"t","user_id":"u","data":{"x":"%s"}}' % ("x" * 9000), 422, "invalid_body"),
    ('{"title":"t","user_id":"u","deliver_at":"tomorrow"}', 422, "invalid_body"),
    ('{"title":"%s"}' % ("x" * (4 * 1024 * 1024)), 413, "too_large"),
])
def test_bad_notify_is_refused_whole(body, status, code):
    answer = call("POST", "/v1/internal/notify", KEY, data=body if isinstance(body, bytes) else body.encode())
    found = problem(answer, status, code)
    if status == 422 and body != "[]":
        assert found["errors"][0]["pointer"].startswith("/") and found["errors"][0]["detail"]


@pytest.mark.parametrize("query", [
    "limit=0", "limit=201", "limit=x", "offset=-1", "after=%21", "status=odd", "archived=maybe", "order=oldest", "level=LOUD", "since=yesterday"])
def test_bad_queries_are_never_clamped(jwt, query):
    problem(call("GET", "/v1/notifications?" + query, jwt), 422, "invalid_body")


def test_credentials_and_ids(user, jwt):
    now = int(time.time())
    for bad in ["", "x", "a.b.c", forged({"sub": user, "exp": now + 60}), forged({"sub": user, "exp": now + 60}, "none")]:
        problem(call("GET", "/v1/notifications", headers=bearer(bad)), 401, "invalid_user_id")
    problem(call("GET", "/v1/notifications"), 401, "invalid_user_id")
    expiring = token(user, "--ttl", "1s")
    eventually(lambda: call("GET", "/v1/notifications", expiring).status_code == 401, "the token's end")
    problem(call("POST", "/v1/internal/notify", json={}), 401, "unauthorized")
    problem(call("POST", "/v1/internal/notify", "ck_nobody", json={}), 401, "unauthorized")
    problem(call("POST", "/v1/internal/notify", jwt, json={}), 403, "forbidden")
    problem(call("GET", "/v1/notifications", KEY), 403, "forbidden")
    problem(call("GET", "/v1/notifications/17", jwt), 400, "invalid_id")
    problem(call("GET", f"/v1/notifications/{uuid.uuid4()}", jwt), 404, "not_found")
    problem(call("PATCH", f"/v1/notifications/{uuid.uuid4()}/read", jwt, data=b"{"), 400, "invalid_body")
    made = notify(user)[0]["id"]
    problem(call("PATCH", f"/v1/notifications/{made}/read", jwt, json={"title": "x"}), 422, "invalid_body")
    problem(call("GET", "/v1/nowhere", jwt), 404, "not_found")


def test_a_cookie_writes_only_from_an_allowed_origin(user, jwt):
    made = notify(user)[0]["id"]
    cookie = {"Cookie": "carillon_token=" + jwt}
    assert call("GET", "/v1/notifications", headers=cookie).status_code == 200
    path = f"/v1/notifications/{made}/read"
    problem(call("POST", path, headers=cookie), 403, "forbidden")
    problem(call("POST", path, headers=cookie | {"Origin": "https://evil.example"}), 403, "forbidden")
    assert call("POST", path, headers=cookie | {"Origin": "http://localhost:5173"}).status_code == 200
    allowed = call("OPTIONS", "/v1/notifications", headers={"Origin": "http://localhost:5173", "Access-Control-Request-Method": "GET"})
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:5173"
    evil = call("GET", "/v1/notifications", jwt, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers


def test_a_route_of_another_role_is_421(jwt):
    problem(call("GET", "/v1/notifications", jwt, base=EDGES[0]), 421, "wrong_role")
    problem(call("POST", "/v1/internal/notify", KEY, base=EDGES[0], json={}), 421, "wrong_role")
    problem(call("GET", "/v1/notifications/sse", jwt, base=APIS[0]), 421, "wrong_role")


def test_health_and_metrics_are_not_shown_outside():
    for base in APIS + EDGES:
        assert call("GET", "/health/ready", base=base).json()["status"] == "ready"
        assert "carillon_unread_drift_total 0" in call("GET", "/metrics", base=base).text
    for path in ("/metrics", "/health/ready"):
        assert call("GET", path).status_code in (403, 404)


def test_many_recipients_are_one_answer():
    users = [new_user("many") for _ in range(1000)]
    made = notify(users + users[:10])
    assert sorted(entry["user_id"] for entry in made) == sorted(users) and all(entry["seq"] == 1 for entry in made)


def test_the_badge_for_the_server(user):
    notify(user)
    assert call("GET", f"/v1/internal/users/{user}/count", KEY).json()["unread"] == 1
