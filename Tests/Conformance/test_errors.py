"""What is wrong is said: status, code, problem details. Nothing is half-written, and nothing is a 500."""

import http.client
import json
import socket
import urllib.parse

import pytest

from harness import problem

UNKNOWN = "01930000-0000-7000-8000-000000000000"


def test_error_is_a_problem(user):
    answer = user.request("GET", f"/{UNKNOWN}", headers={"X-Request-Id": "conformance-1"})
    body = problem(answer, 404, "not_found")
    assert body["instance"] == "conformance-1" == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "identifier",
    ["x", "1", UNKNOWN[:-1], UNKNOWN + "0", UNKNOWN.replace("-", ""), "%00", "%F0%9F%94%94", "..%2F..", "{}", UNKNOWN[:-1] + "g"],
)
def test_id_that_is_no_uuid(user, identifier):
    for method, path in (("GET", ""), ("PATCH", "/read"), ("POST", "/read"), ("PATCH", ""), ("DELETE", "")):
        body = {"json": {"read": True}} if (method, path) == ("PATCH", "") else {}
        problem(user.request(method, f"/{identifier}{path}", **body), 400, "invalid_id")


def test_unknown_id(user):
    for method, path in (("GET", ""), ("PATCH", "/read"), ("POST", "/read"), ("DELETE", "")):
        problem(user.request(method, f"/{UNKNOWN}{path}"), 404, "not_found")
    problem(user.request("PATCH", f"/{UNKNOWN}", json={"read": True}), 404, "not_found")


def test_id_in_capitals_is_the_same(cluster, user):
    made = cluster.notify(user)
    assert user.get(f"/{made['id'].upper()}")["id"] == made["id"]


NOT_JSON = [
    b"", b"{", b"nonsense", b"{'a':1}", b'{"a":1,}', b'{"a":01}', b'{"a":NaN}', b'{"a":"\n"}', b'{"title":"\xff"}', b'{"title":"\xed\xa0\x80"}',
    b"{}{}", b"\x00", b"[" * 100_000, b'{"a":' * 50_000, "{\"a\":\"\\ud800\"}".encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("content", NOT_JSON, ids=lambda content: repr(content[:16]))
def test_body_that_is_not_json(cluster, user, content):
    problem(cluster.publish(content), 400, "invalid_body")
    if content:
        made = cluster.notify(user)
        json_type = {"Content-Type": "application/json"}
        problem(user.request("PATCH", f"/{made['id']}", content=content, headers=json_type), 400, "invalid_body")
        problem(user.request("POST", "/read-all", content=content, headers=json_type), 400, "invalid_body")
        assert user.count()["unread"] == 1


@pytest.mark.parametrize("content", [b"[]", b"1", b'"x"', b"null", b"true", b"{}"])
def test_json_that_is_no_request(cluster, content):
    problem(cluster.publish(content), 422, "invalid_body")


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud800x", "\\udc00\\ud800"])
def test_half_of_a_surrogate_pair(cluster, user, escape):
    answer = cluster.publish(f'{{"title":"a{escape}","user_ids":["{user.name}"]}}'.encode())
    assert answer.status_code in (201, 400, 422), answer.text
    if answer.status_code == 201:
        [item] = user.list()["data"]
        item["title"].encode()
    else:
        assert answer.json()["code"] == "notifications_m.invalid_body"


def filled(pointer, code="invalid_body", **fields):
    return pytest.param(pointer, code, fields, id=pointer + "=" + repr(next(iter(fields.values()), None))[:24])


@pytest.mark.parametrize(
    ("pointer", "code", "fields"),
    [
        filled("/title", title=None),
        filled("/title", title=""),
        filled("/title", title="\u0000\r\n"),
        filled("/title", title=1),
        filled("/title", title=["x"]),
        filled("/title", title="x" * 201),
        filled("/content", content={}),
        filled("/content", content="x" * 4001),
        filled("/level", level="LOUD"),
        filled("/level", level="info"),
        filled("/level", level=1),
        filled("/priority", priority="NONE"),
        filled("/priority", priority=True),
        filled("/link_url", link_url="/" + "x" * 2000),
        filled("/link_url", link_url=5),
        filled("/link_text", link_text=[]),
        filled("/customer_id", customer_id=""),
        filled("/customer_id", customer_id=7),
        filled("/customer_id", customer_id="x" * 129),
        filled("/customer_id", customer_id="a\u0000b"),
        filled("/rec_type", rec_type=1),
        filled("/rec_id", rec_id=1),
        filled("/data", data=[]),
        filled("/data", data="x"),
        filled("/data", data={"k": "x" * 8192}),
        filled("/template_data", template_data=1),
        filled("/channels", channels="in_app"),
        filled("/channels", channels=[]),
        filled("/channels/0", "invalid_channel", channels=["pigeon"]),
        filled("/channels/1", "invalid_channel", channels=["in_app", "pigeon"]),
        filled("/deliver_at", deliver_at="soon"),
        filled("/deliver_at", deliver_at=1700000000),
        filled("/expires_at", expires_at="2026-02-30T00:00:00Z"),
        filled("/expires_at", expires_at="2020-01-01T00:00:00Z"),
        filled("/collapse_key", collapse_key=1),
        filled("/collapse_key", collapse_key=""),
        filled("/type", "invalid_group", type="NO_SUCH_TYPE"),
        filled("/type", "invalid_group", type="Chat"),
        filled("/type", type=1),
        filled("/event", "invalid_event", event="no_such_event"),
        filled("/event", "invalid_event", type="chat", event="task_assigned"),
        filled("/event", event=1),
    ],
)
def test_wrong_field_is_named_and_nothing_is_written(cluster, user, pointer, code, fields):
    if "event" in fields and "type" in fields:
        fields = {"event": fields["event"], **fields}
    body = problem(cluster.publish(**{"title": "Hello", "user_ids": [user.name], **fields}), 422, code)
    assert pointer in [error["pointer"] for error in body["errors"]], body
    assert all(error["detail"] for error in body["errors"])
    count = user.count()
    assert count["unread"] == 0 and count["last_event_id"].endswith("-0")


@pytest.mark.parametrize(
    "users",
    [
        {}, {"user_ids": []}, {"user_ids": "x"}, {"user_ids": [1]}, {"user_ids": [None]}, {"user_ids": [""]}, {"user_ids": ["a\nb"]},
        {"user_ids": ["x" * 129]}, {"user_ids": [["x"]]}, {"user_ids": {"x": 1}}, {"user_id": 5}, {"user_id": ""}, {"user_ids": [f"u{n}" for n in range(10_001)]},
    ],
    ids=lambda users: repr(users)[:30],
)  # fmt: skip
def test_wrong_recipients(cluster, users):
    problem(cluster.publish(title="Hello", **users), 422, "invalid_body")


def test_one_bad_recipient_and_none_is_notified(cluster, user, other):
    problem(cluster.publish(title="Hello", user_ids=[user.name, "bad\u0007", other.name]), 422, "invalid_body")
    for one in (user, other):
        assert one.ids() == [] and one.count()["last_event_id"].endswith("-0")


def test_all_that_is_wrong_is_said_at_once(cluster, user):
    body = problem(cluster.publish(user_ids=[user.name], level="x", priority="y", data=1), 422, "invalid_body")
    assert {"/level", "/priority", "/data", "/title"} <= {error["pointer"] for error in body["errors"]}


# --- Size ----------------------------------------------------------------------------------------------------------------


def test_largest_bodies(cluster, user):
    padding = " " * (4 * 1024 * 1024)
    fields = json.dumps({"title": "Hello", "user_ids": [user.name]})
    assert cluster.publish((fields + padding)[: 4 * 1024 * 1024].encode()).status_code == 201
    problem(cluster.publish((fields + padding).encode()), 413, "too_large")
    assert user.count()["unread"] == 1
    [identifier] = user.ids()
    body = '{"seen":true}' + " " * (1024 * 1024)
    assert user.request("PATCH", f"/{identifier}", content=body[: 1024 * 1024].encode()).status_code == 200
    problem(user.request("PATCH", f"/{identifier}", content=body.encode()), 413, "too_large")


def test_announced_size_is_refused_before_it_is_sent(cluster):
    address = urllib.parse.urlsplit(cluster.apis[0])
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/internal/notify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
            + f"Authorization: Bearer {cluster.api_key}\r\nContent-Length: 999999999\r\n\r\n".encode()
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert json.loads(answer.read())["code"] == "notifications_m.too_large"


def test_chunked_body_has_the_same_bound(cluster, user):
    def parts():
        yield json.dumps({"title": "Hello", "user_ids": [user.name]}).encode()
        for _ in range(80):
            yield b" " * 65536

    answer = cluster.http.post(f"{cluster.url}/v1/internal/notify", content=parts(), headers=cluster.application)
    problem(answer, 413, "too_large")
    assert user.count()["unread"] == 0


def test_largest_header(cluster, user):
    answer = user.request("GET", "/count", base=cluster.apis[0], headers={"X-Filler": "x" * 12_000})
    assert answer.status_code == 200
    answer = user.request("GET", "/count", base=cluster.apis[0], headers={"X-Filler": "x" * 20_000})
    assert answer.status_code in (413, 431)
    assert answer.json()["code"] == "notifications_m.too_large"


# --- Rude clients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT evil:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/notifications HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /v1/internal/notify HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/internal/notify HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v1/internal/notify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/notifications?limit=%zz&%=%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/notifications/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_hardly_http_is_a_client_error_and_harms_nobody(cluster, user, request_bytes):
    for node in (*cluster.apis, *cluster.edges):
        address = urllib.parse.urlsplit(node)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except ConnectionResetError:
                pass
            assert not received or received.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), received[:200]
    assert user.count()["unread"] == 0
    with user.stream() as stream:
        stream.ready()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "", {"GET", "HEAD"}), ("DELETE", "", {"GET", "HEAD"}), ("PUT", "/count", {"GET", "HEAD"}), ("TRACE", "", {"GET", "HEAD"}),
        ("PUT", f"/{UNKNOWN}", {"GET", "HEAD", "PATCH", "DELETE"}), ("DELETE", f"/{UNKNOWN}/deliveries", {"GET", "HEAD"}),
    ],
)  # fmt: skip
def test_method_that_a_path_does_not_have(user, method, path, allowed):
    answer = user.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_path_that_does_not_exist(cluster, user):
    for path in ("/v1/nothing", "/v1", "/", "/v1/notifications/a/b/c", "/v2/notifications"):
        answer = cluster.http.get(cluster.url + path, headers=user.bearer)
        assert answer.status_code in (400, 404), f"{path}: {answer.status_code}"
        assert answer.json()["code"].startswith("notifications_m."), path


def test_strange_queries_are_no_server_errors(user):
    for text in ("a=b&a=c", "%", "%%%", "=", "&&&", "limit", "limit=%00", "customer_id=%ff", "customer_id=%F0%9F%94%94", "x" * 3000):
        answer = user.request("GET", "?" + text)
        assert answer.status_code in (200, 422), f"{text[:40]}: {answer.status_code} {answer.text}"
