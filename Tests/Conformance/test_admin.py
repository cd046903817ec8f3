"""What administrators see and do: keys, totals, queues, a user's data, and who may."""

import concurrent.futures
import json
import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from harness import eventually, problem

SCOPES = ["notify", "direct", "webhooks", "contacts", "admin"]


class Admin:
    """Requests below /v1/admin with one credential."""

    def __init__(self, cluster, headers, base=None):
        self.cluster, self.headers, self.base = cluster, headers, base or cluster.url

    def request(self, method, path, *, headers=None, **options):
        return self.cluster.http.request(method, f"{self.base}/v1/admin{path}", headers={**self.headers, **(headers or {})}, **options)

    def get(self, path, **parameters):
        answer = self.request("GET", path, params=parameters)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def create_key(self, **body):
        answer = self.request("POST", "/apikeys", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture
def admin(cluster):
    return Admin(cluster, cluster.application)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def routes(user="somebody"):
    return [
        ("GET", "/apikeys", None), ("POST", "/apikeys", {"name": "x", "scopes": ["notify"]}), ("DELETE", f"/apikeys/{uuid.uuid4()}", None),
        ("GET", "/connections", None), ("GET", f"/connections?user_id={user}", None), ("POST", f"/users/{user}/disconnect", None),
        ("GET", "/stats", None), ("GET", "/queues", None), ("GET", "/deliveries", None), ("POST", f"/users/{user}/export", None), ("DELETE", f"/users/{user}", None),
        ("GET", "/dead-letters", None), ("POST", f"/dead-letters/{uuid.uuid4()}/retry", None), ("DELETE", f"/dead-letters/{uuid.uuid4()}", None),
    ]  # fmt: skip


# --- Who may -------------------------------------------------------------------------------------------------------------


def test_without_a_credential_nothing_is_shown_or_done(cluster):
    for headers in ({}, bearer("ck_unknown"), {"X-API-Key": "ck_unknown"}, {"X-API-Key": ""}, bearer("no.token.at-all"), {"Authorization": "Basic eDp5"},
                    {"Cookie": "carillon_token=x"}):  # fmt: skip
        for method, path, body in routes():
            problem(Admin(cluster, headers).request(method, path, json=body), 401, "unauthorized")


def test_a_user_is_no_administrator(cluster, user):
    for method, path, body in routes(user.name):
        problem(Admin(cluster, user.bearer).request(method, path, json=body), 403, "forbidden")
        problem(Admin(cluster, {"Cookie": f"carillon_token={user.token}"}).request(method, path, json=body), 403, "forbidden")


def test_a_key_needs_the_scope(cluster, admin):
    key = admin.create_key(name="all but one", scopes=[scope for scope in SCOPES if scope != "admin"])["key"]
    for method, path, body in routes():
        problem(Admin(cluster, bearer(key)).request(method, path, json=body), 403, "forbidden")


@pytest.mark.parametrize("header", ["bearer", "x-api-key", "role", "cookie"])
def test_an_administrator_is_a_key_with_the_scope_or_a_user_with_the_role(cluster, user, header):
    token = cluster.token(user.name, "--role", "admin")
    headers = {
        "bearer": cluster.application, "x-api-key": {"X-API-Key": cluster.api_key}, "role": bearer(token),
        "cookie": {"Cookie": f"carillon_token={token}", "Origin": cluster.url},
    }[header]  # fmt: skip
    admin = Admin(cluster, headers)
    for method, path, body in routes(user.name):
        unknown = method == "DELETE" or path.endswith("/retry")
        expected = 201 if body else 204 if path.startswith("/users") and method == "DELETE" else 404 if unknown else 200
        answer = admin.request(method, path, json=body)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text}"


def test_a_cookie_writes_only_for_a_page_that_may(cluster, user):
    token = cluster.token(user.name, "--role", "admin")
    for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        admin = Admin(cluster, {"Cookie": f"carillon_token={token}", **origin})
        for method, path, body in routes(user.name):
            answer = admin.request(method, path, json=body)
            if method == "GET":
                assert answer.status_code == 200
            else:
                problem(answer, 403, "forbidden")


def test_an_administrator_of_some_customers_sees_only_theirs(cluster, user):
    first, second = cluster.unique("-a"), cluster.unique("-b")
    for customer, count in ((first, 3), (second, 2), (None, 1)):
        for _ in range(count):
            cluster.notify(user, customer_id=customer)
    narrow = Admin(cluster, bearer(cluster.token(user.name, "--role", "admin", "--customer", first)))
    for method, path, body in routes(user.name):
        if path not in ("/stats", "/deliveries"):
            problem(narrow.request(method, path, json=body), 403, "forbidden")

    def counted():
        return narrow.get("/stats")["summary"]["created"] == 3

    eventually("three of its own are counted", counted)
    assert narrow.get("/stats", customer_id=first)["summary"]["created"] == 3
    groups = narrow.get("/stats", group_by="customer_id")["data"]
    assert groups == [{"customer_id": first, "count": 3}]
    for path in ("/stats", "/deliveries"):
        problem(narrow.request("GET", path, params={"customer_id": second}), 403, "forbidden")
    everything = Admin(cluster, cluster.application)
    eventually("the other's are counted", lambda: everything.get("/stats", customer_id=second)["summary"]["created"] == 2)


# --- Keys ----------------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_works_everywhere_and_is_dead_once_it_is_revoked(cluster, admin, user):
    made = admin.create_key(name='shop "north"', scopes=["admin", "notify", "notify"])
    assert made["key"].startswith("ck_") and made["scopes"] == ["notify", "admin"] and made["name"] == 'shop "north"'
    assert made["revoked_at"] is None and made["created_at"].endswith("Z")
    listed = next(key for key in admin.get("/apikeys", limit=200)["data"] if key["id"] == made["id"])
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert made["key"] not in admin.request("GET", "/apikeys", params={"limit": 200}).text
    for url in cluster.apis:
        assert cluster.publish(url=url, title="x", user_ids=[user.name], headers=bearer(made["key"])).status_code == 201
    own = Admin(cluster, bearer(made["key"]))
    assert own.request("DELETE", f"/apikeys/{made['id']}").status_code == 204
    revoked = time.monotonic()
    problem(admin.request("DELETE", f"/apikeys/{made['id']}"), 404, "not_found")
    for url in cluster.apis:
        eventually(
            "the key is refused",
            lambda url=url: cluster.publish(url=url, title="x", user_ids=[user.name], headers=bearer(made["key"])).status_code == 401,
            timeout=max(0.0, revoked + 2 - time.monotonic()) + 1,
        )
    assert all(key["id"] != made["id"] for key in admin.get("/apikeys", limit=200)["data"])
    gone = next(key for key in admin.get("/apikeys", status="revoked", limit=200)["data"] if key["id"] == made["id"])
    assert gone["revoked_at"] is not None


def test_an_idempotency_key_makes_one_api_key_which_only_its_maker_is_shown_again(cluster, admin):
    claim = {"Idempotency-Key": cluster.unique()}
    body = {"name": claim["Idempotency-Key"], "scopes": ["admin"]}

    def make(admin, node=0, headers=claim, **body):
        return Admin(cluster, admin.headers, cluster.apis[node]).request("POST", "/apikeys", json=body, headers=headers)

    first = make(admin, **body)
    assert first.status_code == 201 and "Idempotent-Replayed" not in first.headers
    for node in range(len(cluster.apis)):
        again = make(admin, node, **body)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["Idempotent-Replayed"] == "true" and again.headers["Cache-Control"] == "no-store"
    problem(make(admin, name="another", scopes=["admin"]), 422, "invalid_body")
    problem(make(admin, headers={"Idempotency-Key": "x" * 256}, **body), 422, "invalid_body")
    # Another key's claims are its own.
    other = make(Admin(cluster, bearer(first.json()["key"])), **body)
    assert other.status_code == 201 and other.json()["id"] != first.json()["id"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        claims = {"Idempotency-Key": cluster.unique()}
        answers = list(pool.map(lambda index: make(admin, index % len(cluster.apis), claims, **body), range(8)))
    assert {answer.status_code for answer in answers} == {201} and len({answer.text for answer in answers}) == 1
    named = [key for key in admin.get("/apikeys", limit=200)["data"] if key["name"] == body["name"]]
    assert {key["id"] for key in named} == {first.json()["id"], other.json()["id"], answers[0].json()["id"]} and len(named) == 3


def test_keys_come_in_pages_the_last_ones_first(admin):
    made = [admin.create_key(name=f"page {number}", scopes=["notify"])["id"] for number in range(5)]
    seen, after = [], {}
    while True:
        page = admin.get("/apikeys", limit=2, **after)
        assert page["page"]["limit"] == 2 and len(page["data"]) <= 2
        seen += [key["id"] for key in page["data"]]
        if page["page"]["next"] is None:
            break
        after = {"after": page["page"]["next"]}
    assert seen[:5] == made[::-1] and len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "body",
    [
        {}, [], "x", {"name": "x"}, {"scopes": ["notify"]}, {"name": "", "scopes": ["notify"]}, {"name": "x" * 201, "scopes": ["notify"]},
        {"name": "a\nb", "scopes": ["notify"]}, {"name": 7, "scopes": ["notify"]}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": "notify"}, {"name": "x", "scopes": [None]}, {"name": "x", "scopes": ["notify"], "expires_at": "never"},
    ],
)  # fmt: skip
def test_a_key_that_is_not_described_well_is_not_made(admin, body):
    before = len(admin.get("/apikeys", limit=200)["data"])
    problem(admin.request("POST", "/apikeys", json=body), 422, "invalid_body")
    assert len(admin.get("/apikeys", limit=200)["data"]) == before


def test_bad_ids_queries_and_bodies_are_told_so(admin):
    problem(admin.request("POST", "/apikeys", content=b"{"), 400, "invalid_body")
    problem(admin.request("DELETE", "/apikeys/7"), 400, "invalid_id")
    problem(admin.request("DELETE", f"/apikeys/{uuid.uuid4()}"), 404, "not_found")
    for method, path in (("DELETE", "/dead-letters/{}"), ("POST", "/dead-letters/{}/retry")):
        problem(admin.request(method, path.format(7)), 400, "invalid_id")
        problem(admin.request(method, path.format(uuid.uuid4())), 404, "not_found")
    long = "u" * 129
    for method, path in (
        ("GET", "/apikeys?limit=0"), ("GET", "/apikeys?limit=201"), ("GET", "/apikeys?after=x"), ("GET", "/apikeys?status=x"),
        ("GET", "/connections?limit=x"), ("GET", "/connections?user_id="), ("GET", f"/connections?after={long}"),
        ("GET", "/stats?since=yesterday"), ("GET", "/stats?until=2026-13-01"), ("GET", "/stats?since=2026-01-01&until=2027-01-03"),
        ("GET", "/stats?since=2026-01-02&until=2026-01-02"), ("GET", "/stats?group_by="), ("GET", "/stats?group_by=day,day"),
        ("GET", "/stats?group_by=user"), ("GET", "/stats?type="), ("POST", f"/users/{long}/disconnect"), ("POST", f"/users/{long}/export"),
        ("DELETE", f"/users/{long}"), ("GET", "/deliveries?state=lost"), ("GET", "/deliveries?channel=pigeon"), ("GET", "/deliveries?after=x"),
        ("GET", "/deliveries?since=2026-01-01T00:00:00Z&until=2026-06-01T00:00:00Z"), ("GET", "/deliveries?since=monday"),
        ("GET", "/dead-letters?queue=pigeon"), ("GET", "/dead-letters?limit=0"), ("GET", "/dead-letters?after=x"),
    ):  # fmt: skip
        problem(admin.request(method, path), 422, "invalid_body")


# --- Totals --------------------------------------------------------------------------------------------------------------


def test_totals_tell_what_was_created_read_and_deleted_by_type_and_event(cluster, admin, user):
    customer = cluster.unique()
    chats = [cluster.notify(user, type="chat", event="message_received", customer_id=customer)["id"] for _ in range(4)]
    tasks = [cluster.notify(user, type="task", customer_id=customer)["id"] for _ in range(2)]
    user.write("PATCH", f"/{chats[0]}/read")
    user.write("DELETE", f"/{tasks[0]}")
    user.write("POST", "/read-all", {"type": "chat"})
    user.write("POST", "/read-all")

    def stats(**more):
        return admin.get("/stats", customer_id=customer, **more)

    expected = {"created": 6, "read": 5, "deleted": 1, "expired": 0, "replaced": 0}
    answer = eventually("all of it is counted", lambda: (found := stats()) and expected.items() <= found["summary"].items() and found)
    assert answer["summary"]["read_rate"] == round(5 / 6, 3)
    latency = answer["summary"]["read_latency"]
    assert latency["timed"] == 5 and latency["within_minute"] == latency["within_hour"] == latency["within_day"] == 5
    assert 0 <= latency["mean_seconds"] < 60
    assert answer["group_by"] == ["day", "channel", "type", "event", "state"]
    rows = {(row["channel"], row["type"], row["event"], row["state"]): row for row in answer["data"]}
    assert len({row["day"] for row in answer["data"]}) <= 2
    assert rows["in_app", "chat", "message_received", "created"]["count"] == 4
    assert rows["in_app", "chat", "message_received", "read"]["count"] == 4
    assert rows["in_app", "task", None, "created"]["count"] == 2
    assert rows["in_app", "task", None, "deleted"]["count"] == 1
    assert "latency" in rows["in_app", "task", None, "read"] and "latency" not in rows["in_app", "task", None, "created"]
    by_type = stats(group_by="type", state="created")["data"]
    assert by_type == [{"type": "chat", "count": 4}, {"type": "task", "count": 2}]
    assert stats(event="message_received")["summary"]["created"] == 4
    today = datetime.now(timezone.utc).date()
    assert stats(until=str(today - timedelta(days=2)))["data"] == []
    assert stats(since=str(today - timedelta(days=1)), until=(today + timedelta(days=2)).isoformat() + "T00:00:00Z")["summary"]["created"] == 6


def test_queues_say_how_much_waits(cluster, admin, user):
    def scheduled():
        return next(row for row in admin.get("/queues")["data"] if (row["queue"], row["state"]) == ("scheduled", "waiting"))["depth"]

    before = scheduled()
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    cluster.notify(user, deliver_at=later)
    assert scheduled() == before + 1
    names = {(row["queue"], row["state"]) for row in admin.get("/queues")["data"]}
    assert {("scheduled", "due"), ("expiry", "due"), ("totals", "due"), ("email", "due"), ("sms", "waiting"), ("telegram", "dead")} <= names


def test_deliveries_are_listed(admin, user):
    for parameters in ({}, {"user_id": user.name}, {"user_id": user.name, "state": "failed", "since": "2020-01-01T00:00:00Z"}, {"channel": "email", "limit": 3}):
        answer = admin.get("/deliveries", **parameters)
        assert isinstance(answer["data"], list) and answer["page"]["limit"] == parameters.get("limit", 50)


# --- A user's data -------------------------------------------------------------------------------------------------------


def export(admin, name):
    answer = admin.request("POST", f"/users/{name}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/x-ndjson" and answer.text.endswith("\n")
    lines = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    assert lines[-1] == {"kind": "end", "lines": len(lines) - 1}
    return lines[:-1]


def test_an_export_has_all_of_a_user_and_nothing_of_another(cluster, admin, user, other):
    made = [cluster.notify(user, title=f"Title {number} \u2028 \"x\"", content="a\nb")["id"] for number in range(30)]
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    made.append(cluster.notify(user, deliver_at=later)["id"])
    cluster.notify(other, title="of another")
    user.write("PATCH", f"/{made[0]}/read")
    user.write("PATCH", f"/{made[1]}", {"archived": True})
    lines = export(admin, user.name)
    found = {line["notification"]["id"]: line["notification"] for line in lines if line["kind"] == "notification"}
    assert set(found) == set(made)
    listed = {item["id"]: item for item in user.list(limit=200, archived="all")["data"]}
    assert {identifier: item for identifier, item in found.items() if identifier in listed} == listed
    assert found[made[-1]]["seq"] is None
    assert [line["change"] for line in lines if line["kind"] == "change"] == ["created"] * 30 + ["updated"] * 2
    assert "of another" not in json.dumps(lines)


def test_somebody_who_is_not_known_has_nothing_to_export_and_nothing_to_erase(cluster, admin):
    for name in (cluster.unique(), "a%2Fb", "%7B%7D", "%F0%9F%94%94"):
        assert export(admin, name) == []
        assert admin.request("DELETE", f"/users/{name}").status_code == 204


def test_an_erased_user_has_nothing_left_and_starts_anew(cluster, admin, user, other):
    for person in (user, other):
        for number in range(8):
            cluster.notify(person, title=f"{number}", customer_id="c" if number % 2 else None)
        person.write("POST", "/read-all")
        cluster.notify(person)
    before = user.list()["last_event_id"]
    theirs = other.list(), other.count()
    with user.stream(cluster.edges[0]) as first, user.stream(cluster.edges[-1]) as last, other.stream() as bystander:
        streams = [first, last]
        for stream in (*streams, bystander):
            stream.ready()
        assert admin.request("DELETE", f"/users/{user.name}").status_code == 204
        empty = user.list(archived="all")
        assert empty["data"] == [] and empty["unread"] == 0 and empty["unseen"] == 0
        position = empty["last_event_id"]
        assert position.split("-")[0] != before.split("-")[0]
        count = user.count()
        assert count == {"unread": 0, "unseen": 0, "by_type": {}, "last_event_id": position}
        for stream in streams:
            block = stream.expect("resync")
            assert block.id == position and block.json == {"last_event_id": position, "unread": 0}
        # Again: the same, and nobody is disturbed.
        assert admin.request("DELETE", f"/users/{user.name}").status_code == 204
        assert user.list()["last_event_id"] == position
        made = cluster.notify(user)
        for stream in streams:
            block = stream.expect("message")
            assert block.json["id"] == made["id"] and block.json["unread"] == 1 and block.epoch == int(position.split("-")[0])
            assert block.seq == int(position.split("-")[1]) + 1
        cluster.notify(other)
        assert bystander.expect("message").json["unread"] == 2
    assert theirs[0]["data"][0]["id"] in other.ids()
    # No position of before leads anywhere; the one of the erasure does, exactly.
    epoch, seq = (int(part) for part in before.split("-"))
    for old in (before, f"{epoch}-1", f"{epoch}-{seq + 2}", f"{epoch}-{seq + 1}"):
        with user.stream(last_event_id=old) as stream:
            stream.ready()
            assert stream.expect("resync").json["unread"] == 1
    with user.stream(last_event_id=position) as stream:
        assert stream.ready().json["unread"] == 0
        assert stream.expect("message").json["id"] == made["id"]
    assert [line["notification"]["id"] for line in export(admin, user.name) if line["kind"] == "notification"] == [made["id"]]


def test_the_routes_answer_under_every_prefix(cluster, admin):
    for prefix in ("/v1", "/api/v1", "/api"):
        answer = cluster.http.get(f"{cluster.url}{prefix}/admin/apikeys", headers=cluster.application)
        assert answer.status_code == 200, prefix


# --- Connections ---------------------------------------------------------------------------------------------------------


def test_connections_show_who_is_where_and_disconnect_closes_them_all(cluster, admin, user, other):
    with user.stream(cluster.edges[0]) as first, user.stream(cluster.edges[-1]) as last, other.stream(cluster.edges[0]) as bystander:
        ids = {stream: stream.ready().json for stream in (first, last, bystander)}
        mine = admin.get("/connections", user_id=user.name)
        assert mine["connections"] == 2
        assert {(row["connection_id"], row["node"]) for row in mine["data"]} == {
            (ids[stream]["connection_id"], ids[stream]["node"]) for stream in (first, last)
        }
        for row in mine["data"]:
            since = datetime.fromisoformat(row["since"].replace("Z", "+00:00"))
            assert abs((datetime.now(timezone.utc) - since).total_seconds()) < 60 and row["user_id"] == user.name
        assert len(mine["data"]) == 2

        found, after = {}, {}
        while True:
            page = admin.get("/connections", limit=1, **after)
            assert len(page["data"]) <= 1
            found.update({row["user_id"]: row for row in page["data"]})
            if page["page"]["next"] is None:
                break
            after = {"after": page["page"]["next"]}
        assert found[user.name]["connections"] == 2 and len(found[user.name]["edges"]) == len(set(cluster.edges))
        assert found[other.name]["connections"] == 1
        assert page["connections"] == sum(edge["connections"] for edge in page["edges"]) >= 3
        assert {edge["node"] for edge in page["edges"]} >= {ids[first]["node"], ids[last]["node"]}

        answer = admin.request("POST", f"/users/{user.name}/disconnect")
        assert answer.status_code == 200 and answer.json() == {"disconnected": 2}
        for stream in (first, last):
            block = stream.expect("close")
            assert block.json == {"reason": "disconnected"} and block.retry
            assert stream.end() == []
        eventually("no stream is left", lambda: admin.get("/connections", user_id=user.name)["connections"] == 0)
        assert admin.request("POST", f"/users/{user.name}/disconnect").json() == {"disconnected": 0}
        made = cluster.notify(other)
        assert bystander.expect("message").json["id"] == made["id"]
    # Nobody is kept from coming back.
    with user.stream() as stream:
        stream.ready()


def test_an_idempotency_key_disconnects_once(cluster, admin, user):
    key = {"Idempotency-Key": cluster.unique()}
    with user.stream() as stream:
        stream.ready()
        first = admin.request("POST", f"/users/{user.name}/disconnect", headers=key)
        assert first.status_code == 200 and first.json() == {"disconnected": 1} and "idempotent-replayed" not in first.headers
    with user.stream() as stream:
        stream.ready()
        again = admin.request("POST", f"/users/{user.name}/disconnect", headers=key)
        assert again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
        cluster.notify(user, title="Still there")
        stream.expect("message")
    problem(admin.request("POST", f"/users/{user.name}/disconnect", headers=key, content=b"{}"), 422, "invalid_body")
    # Of another user, another one.
    other = admin.request("POST", f"/users/{cluster.unique()}/disconnect", headers=key)
    assert other.json() == {"disconnected": 0} and "idempotent-replayed" not in other.headers
