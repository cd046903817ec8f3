"""The audit log: who changed what, when, from where, and what came of it."""

import json
import subprocess
import uuid

import httpx
import pytest

from harness import eventually, problem

UNKNOWN = "01930000-0000-7000-8000-000000000000"


def page(cluster, base=None, **parameters):
    answer = cluster.http.get(f"{base or cluster.url}/v1/admin/audit", params=parameters, headers=cluster.application)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows_of(cluster, subject, count):
    """The rows of that subject, the oldest first, once there are so many."""

    def attempt():
        rows = page(cluster, subject=subject, limit=200)["data"]
        return len(rows) >= count and rows[::-1]

    rows = eventually(f"{count} rows of {subject}", attempt)
    assert len(rows) == count, rows
    return rows


def row_of_request(cluster, request_id, **parameters):
    """The row of a request that bore this id."""

    def attempt():
        return [row for row in page(cluster, limit=200, **parameters)["data"] if row["request_id"] == request_id]

    [row] = eventually(f"a row of the request {request_id}", attempt)
    return row


@pytest.fixture
def request_id():
    return "audit-" + uuid.uuid4().hex


def test_a_users_writes_are_there_and_reads_are_not(cluster, user):
    made = cluster.notify(user)
    path = f"/{made['id']}"
    asked = [
        ("PATCH", path + "/read", "/v1/notifications/{id}/read", {"id": made["id"]}, {}, 200),
        ("POST", path + "/read", "/v1/notifications/{id}/read", {"id": made["id"]}, {}, 200),
        ("PATCH", path, "/v1/notifications/{id}", {"id": made["id"]}, {"json": {"seen": True}}, 200),
        ("PATCH", path, "/v1/notifications/{id}", {"id": made["id"]}, {"json": {"title": "secret words"}}, 422),
        ("PATCH", "/read-all", "/v1/notifications/read-all", {}, {}, 200),
        ("POST", "/seen", "/v1/notifications/seen", {}, {}, 200),
        ("POST", "/stream-ticket", "/v1/notifications/stream-ticket", {}, {}, 200),
        ("POST", "/stream-renew", "/v1/notifications/stream-renew", {}, {"json": {"connection_id": UNKNOWN}}, 404),
        ("DELETE", path, "/v1/notifications/{id}", {"id": made["id"]}, {}, 204),
        ("DELETE", path, "/v1/notifications/{id}", {"id": made["id"]}, {}, 404),
        ("DELETE", "/x", "/v1/notifications/{id}", {"id": "x"}, {}, 400),
    ]
    answers = []
    for method, path, _, _, options, status in asked:
        for read in ("", "/count", f"/{made['id']}", "/nonsense"):
            user.request("GET", read)
            user.request("HEAD", read)
        answers.append(user.request(method, path, **options))
        assert answers[-1].status_code == status
    rows = rows_of(cluster, user.name, len(asked))
    # Nodes' clocks and flushes do not order them as one would.
    by_id = {row["request_id"]: row for row in rows}
    for (method, _, route, ids, _, status), answer in zip(asked, answers, strict=True):
        row = by_id[answer.headers["x-request-id"]]
        assert (row["method"], row["route"], row["ids"], row["status"], row["count"]) == (method, route, ids, status, 1)
        assert row["subject"] == {"kind": "user", "id": user.name}
        assert row["address"] == "127.0.0.1"
        assert row["at"].endswith("Z")


def test_all_prefixes_are_one_route(cluster, user):
    for prefix in ("/v1", "/api/v1", "/api"):
        answer = cluster.http.post(f"{cluster.url}{prefix}/notifications/seen", headers=user.bearer)
        assert answer.status_code == 200
    assert {row["route"] for row in rows_of(cluster, user.name, 3)} == {"/v1/notifications/seen"}


def test_one_row_a_request_whatever_the_number_of_recipients(cluster, request_id):
    users = [cluster.unique() for _ in range(100)]
    answer = cluster.publish(title="Hello", user_ids=users, headers={**cluster.application, "X-Request-Id": request_id})
    assert answer.status_code == 201
    row = row_of_request(cluster, request_id)
    assert (row["method"], row["route"], row["ids"], row["status"], row["count"]) == ("POST", "/v1/internal/notify", {}, 201, 1)
    assert row["subject"]["kind"] == "key" and row["subject"]["name"] == "local"
    assert uuid.UUID(row["subject"]["id"]).version == 7
    assert row_of_request(cluster, request_id, subject=row["subject"]["id"]) == row


@pytest.mark.parametrize("case", ["not json", "invalid", "user's token"])
def test_refused_requests_are_there(cluster, user, request_id, case):
    with_id = {"X-Request-Id": request_id}
    if case == "not json":
        answer, status, kind = cluster.publish(b"{", headers={**cluster.application, **with_id}), 400, "key"
    elif case == "invalid":
        answer, status, kind = cluster.publish(title="", user_ids=[], headers={**cluster.application, **with_id}), 422, "key"
    else:
        answer, status, kind = cluster.publish(title="x", user_ids=["x"], headers={**user.bearer, **with_id}), 403, "user"
    assert answer.status_code == status
    row = row_of_request(cluster, request_id)
    assert row["status"] == status and row["subject"]["kind"] == kind and row["route"] == "/v1/internal/notify"


def test_a_write_by_cookie_from_elsewhere_is_there_with_its_user(cluster, user, request_id):
    answer = cluster.http.post(
        f"{cluster.url}/v1/notifications/seen",
        headers={"Cookie": f"carillon_token={user.token}", "Origin": "https://evil.example", "X-Request-Id": request_id},
    )
    problem(answer, 403, "forbidden")
    assert row_of_request(cluster, request_id)["subject"] == {"kind": "user", "id": user.name}


def test_a_body_that_is_too_large_and_a_wrong_role(cluster, request_id):
    node = cluster.apis[0]
    answer = cluster.publish(b"x" * (4 * 1024 * 1024 + 1), url=node, headers={**cluster.application, "X-Request-Id": request_id})
    problem(answer, 413, "too_large")
    row = row_of_request(cluster, request_id)
    assert (row["status"], row["route"], row["subject"]) == (413, "/v1/internal/notify", None)
    other = request_id + "-role"
    answer = cluster.http.post(f"{node}/v1/notifications/stream-ticket", headers={"X-Request-Id": other})
    problem(answer, 421, "wrong_role")
    row = row_of_request(cluster, other)
    assert (row["status"], row["route"]) == (421, None)


def test_requests_of_nobody_are_added_up(cluster):
    """They can be told by their address alone, and come in floods."""
    node, address = cluster.apis[0], "198.51.100." + str(uuid.uuid4().int % 250)
    # The load balancer's word, which a node takes from this machine only.
    headers = {"X-Forwarded-For": address, "Authorization": "Bearer nonsense"}
    for _ in range(50):
        assert cluster.http.post(f"{node}/v1/notifications/seen", headers=headers).status_code == 401
        assert cluster.http.post(f"{node}/v1/internal/notify", headers=headers, json={}).status_code == 401

    def attempt():
        rows = [row for row in page(cluster, limit=200)["data"] if row["address"] == address]
        return sum(row["count"] for row in rows) == 100 and rows

    rows = eventually("all of them in the log", attempt)
    assert len(rows) < 50
    assert {row["route"] for row in rows} == {"/v1/notifications/seen", "/v1/internal/notify"}
    assert {row["status"] for row in rows} == {401} and {json.dumps(row["subject"]) for row in rows} == {"null"}


def test_direct_events_are_added_up(cluster, user, request_id):
    node = cluster.apis[0]
    before = page(cluster, limit=1)["data"][0]["at"]
    with httpx.Client(trust_env=False, headers={**cluster.application, "X-Request-Id": request_id}) as client:
        for _ in range(200):
            answer = client.post(f"{node}/v1/notifications/sse", json={"title": "x", "user_ids": [user.name]})
            assert answer.status_code == 200, answer.text

    def attempt():
        rows = [row for row in page(cluster, limit=200, since=before)["data"] if row["request_id"] == request_id]
        return sum(row["count"] for row in rows) == 200 and rows

    rows = eventually("all of them in the log", attempt)
    assert len(rows) < 100
    assert {row["route"] for row in rows} == {"/v1/notifications/sse"} and {row["subject"]["kind"] for row in rows} == {"key"}


def test_no_secret_and_no_text_is_in_it(cluster, user):
    words = uuid.uuid4().hex
    cluster.notify(user, title=f"title {words}", content=f"content {words}", data={"k": words})
    user.request("POST", f"/seen?ticket={words}&q={words}", json={"note": words})
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    rows_of(cluster, user.name, 2)
    psql = [*"psql -X -A -t -c".split(), "SELECT string_agg(a::text, chr(10)) FROM audit a", cluster.database_url]
    text = subprocess.run(psql, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True).stdout
    assert user.name in text
    for secret in (words, ticket, user.token, cluster.api_key):
        assert secret not in text


def test_pages(cluster, user):
    for _ in range(7):
        user.write("POST", "/seen")
    rows = rows_of(cluster, user.name, 7)[::-1]
    seen, cursor = [], {}
    while True:
        found = page(cluster, subject=user.name, limit=3, **cursor)
        assert found["page"]["limit"] == 3 and len(found["data"]) <= 3
        seen += found["data"]
        if found["page"]["next"] is None:
            break
        cursor = {"after": found["page"]["next"]}
    assert seen == rows
    assert len(page(cluster, subject=user.name, limit=7)["data"]) == 7 and page(cluster, subject=user.name, limit=7)["page"]["next"] is None
    middle = rows[3]["at"]
    assert [row["id"] for row in page(cluster, subject=user.name, since=middle)["data"]] == [row["id"] for row in rows if row["at"] >= middle]
    assert [row["id"] for row in page(cluster, subject=user.name, until=middle)["data"]] == [row["id"] for row in rows if row["at"] < middle]
    assert page(cluster, subject=cluster.unique())["data"] == []


@pytest.mark.parametrize("parameters", ["limit=0", "limit=201", "limit=x", "since=x", "until=2026-13-01", "after=x", "after=", "subject=", "subject=%00"])
def test_wrong_parameters(cluster, parameters):
    body = problem(cluster.http.get(f"{cluster.url}/v1/admin/audit?{parameters}", headers=cluster.application), 422, "invalid_body")
    assert body["errors"][0]["pointer"] == parameters.split("=")[0]


def test_who_may_read_it(cluster, user):
    url = f"{cluster.url}/v1/admin/audit"
    problem(cluster.http.get(url), 401, "unauthorized")
    problem(cluster.http.get(url, headers=user.bearer), 403, "forbidden")
    problem(cluster.http.get(url, headers={"X-API-Key": "ck_" + "x" * 43}), 401, "unauthorized")


def test_lines_that_are_taken_as_they_come_are_there(cluster, request_id):
    body = json.dumps({"title": "x"}) + "\n" + json.dumps(cluster.unique()) + "\n"
    headers = {"Content-Type": "application/x-ndjson", "X-Request-Id": request_id}
    url = f"{cluster.url}/v1/notifications/trigger"
    assert cluster.http.post(url, content=body, headers=cluster.application | headers).status_code == 202
    row = row_of_request(cluster, request_id)
    assert (row["method"], row["route"], row["status"]) == ("POST", "/v1/notifications/trigger", 202)
    assert cluster.http.post(url, content="nonsense\n", headers=cluster.application | headers | {"X-Request-Id": request_id + "-2"}).status_code in (400, 422)
    assert row_of_request(cluster, request_id + "-2")["status"] in (400, 422)
