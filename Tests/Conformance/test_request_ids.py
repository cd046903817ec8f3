"""Every answer bears a request id: the client's where it is a plain word, else a new one; a problem's instance is the same."""

import uuid

import pytest

from harness import Stream

UNKNOWN = "01930000-0000-7000-8000-000000000000"


@pytest.fixture
def request_id():
    return "id-" + uuid.uuid4().hex


# (node, method, path, who, body, status)
ANSWERS = [
    ("api", "GET", "/v1/notifications", "user", None, 200),
    ("api", "GET", "/v1/notifications", None, None, 401),
    ("api", "GET", "/v1/notifications?limit=0", "user", None, 422),
    ("api", "GET", f"/v1/notifications/{UNKNOWN}", "user", None, 404),
    ("api", "GET", "/v1/notifications/x", "user", None, 400),
    ("api", "PUT", "/v1/internal/notify", "key", None, 405),
    ("api", "GET", "/v1/nothing/here", None, None, 404),
    ("api", "POST", "/v1/notifications/seen", "user", None, 200),
    ("api", "POST", "/v1/internal/notify", "key", b"{}", 422),
    ("api", "POST", "/v1/internal/notify", "key", b"{", 400),
    ("api", "POST", "/v1/internal/notify", "user", b"{}", 403),
    ("api", "POST", "/v1/internal/notify", None, b"{}", 401),
    ("api", "POST", "/v1/internal/notify", "key", b"x" * (4 * 1024 * 1024 + 1), 413),
    ("api", "POST", "/v1/notifications/sse", "key", b'{"title":"x","broadcast":true}', 200),
    ("api", "POST", "/v1/notifications/sse", None, b"{}", 401),
    ("api", "GET", "/v1/notifications/sse", "user", None, 421),
    ("api", "GET", "/v1/admin/audit", "user", None, 403),
    ("api", "GET", "/health/live", None, None, 200),
    ("api", "GET", "/health/ready", None, None, 200),
    ("api", "GET", "/metrics", None, None, 200),
    ("api", "OPTIONS", "/v1/notifications", None, None, 204),
    ("api", "HEAD", "/v1/notifications", "user", None, 200),
    ("edge", "POST", "/v1/notifications/stream-ticket", "user", None, 200),
    ("edge", "POST", "/v1/notifications/stream-ticket", None, None, 401),
    ("edge", "POST", "/v1/notifications/stream-renew", "user", b"{}", 422),
    ("edge", "POST", "/v1/notifications/stream-renew", "user", b"", 400),
    ("edge", "POST", "/v1/internal/notify", "key", b"{}", 421),
    ("edge", "GET", "/v1/notifications/sse", None, None, 401),
    ("edge", "GET", "/v1/notifications/sse?ticket=nonsense", None, None, 401),
    ("edge", "GET", "/v1/notifications/sse?customer_id=%00", "user", None, 422),
]


@pytest.mark.parametrize(("node", "method", "path", "who", "body", "status"), ANSWERS, ids=lambda part: str(part)[:40])
def test_answers(cluster, user, request_id, node, method, path, who, body, status):
    base = cluster.apis[0] if node == "api" else cluster.edges[0]
    headers = {"user": user.bearer, "key": cluster.application, None: {}}[who]
    taken = cluster.http.request(method, base + path, headers={**headers, "X-Request-Id": request_id}, content=body)
    made = cluster.http.request(method, base + path, headers={**headers, "X-Request-Id": 'a "b"'}, content=body)
    assert taken.status_code == made.status_code == status, taken.text
    assert taken.headers.get_list("x-request-id") == [request_id]
    [own] = made.headers.get_list("x-request-id")
    assert uuid.UUID(own)
    for answer, expected in ((taken, request_id), (made, own)):
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            assert answer.json()["instance"] == expected
        else:
            assert status < 400


def test_streams(cluster, user, request_id):
    with Stream(f"{cluster.edges[0]}/v1/notifications/sse", {**user.bearer, "X-Request-Id": request_id}) as stream:
        stream.ready()
        assert stream.headers["x-request-id"] == request_id


def test_through_the_load_balancer(cluster, user, request_id):
    assert user.request("GET", "", headers={"X-Request-Id": request_id}).headers["x-request-id"] == request_id
    assert user.request("GET").headers["x-request-id"]
