"""Who may do what: tokens, cookies, tickets, renewal, origins."""

import base64
import json
import time
import urllib.parse
from datetime import datetime, timezone

import jwt
import pytest

from harness import Stream, User, eventually, problem

PAGE = "http://localhost:3000"


def claims(user, **changes):
    now = int(time.time())
    return {"sub": user.name, "iat": now, "exp": now + 600, **changes}


def unsigned(header, payload, signature=b""):
    return ".".join(
        base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, payload, signature)
    )


def bad_tokens(user):
    head, payload, signature = user.token.split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(user, sub="somebody-else")).encode()).rstrip(b"=").decode()
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    return {
        "empty": "",
        "no token": "x",
        "dots": "..",
        "alg none": unsigned({"alg": "none", "typ": "JWT"}, claims(user)),
        "alg None": unsigned({"alg": "None", "typ": "JWT"}, claims(user)),
        "alg none with the old signature": ".".join([unsigned({"alg": "none"}, b"", b"").split(".")[0], payload, signature]),
        "no alg": unsigned({"typ": "JWT"}, claims(user)),
        "forged": jwt.encode(claims(user), "f" * 32, algorithm="HS256"),
        "empty secret": unsigned({"alg": "HS256"}, claims(user), b""),
        "other algorithm": jwt.encode(claims(user), "f" * 64, algorithm="HS512"),
        "another user's claims": ".".join([head, other, signature]),
        "flipped signature": ".".join([head, payload, flipped]),
        "no signature": f"{head}.{payload}.",
        "two parts": f"{head}.{payload}",
        "four parts": f"{user.token}.x",
        "huge": "a" * 9000,
    }


@pytest.mark.parametrize("kind", list(bad_tokens(User(None, "x", unsigned({}, {}, b"xyz")))))
def test_bad_token_is_refused_everywhere(cluster, user, kind):
    made = cluster.notify(user)
    header = {"Authorization": f"Bearer {bad_tokens(user)[kind]}".strip()}
    for method, path in (
        ("GET", ""), ("GET", "/count"), ("GET", f"/{made['id']}"), ("PATCH", f"/{made['id']}/read"), ("POST", "/read-all"), ("POST", "/seen"),
        ("DELETE", f"/{made['id']}"), ("POST", "/stream-ticket"), ("POST", "/stream-renew"),
    ):  # fmt: skip
        problem(user.request(method, path, headers=header), 401, "invalid_user_id")
    with Stream(f"{cluster.url}/v1/notifications/sse", header) as stream:
        assert stream.status == 401
        assert stream.error()["code"] == "notifications_m.invalid_user_id"
    assert user.count()["unread"] == 1


def test_no_token(cluster):
    answer = cluster.http.get(f"{cluster.url}/v1/notifications")
    problem(answer, 401, "invalid_user_id")
    assert "www-authenticate" in answer.headers
    with Stream(f"{cluster.url}/v1/notifications/sse") as stream:
        assert stream.status == 401


def test_api_key_is_no_user(cluster):
    answer = cluster.http.get(f"{cluster.url}/v1/notifications", headers=cluster.application)
    problem(answer, 403, "forbidden")


def test_expired_token(cluster, user):
    short = User(cluster, user.name, cluster.token(user.name, "--ttl", "1s"))
    answer = eventually(
        "the token is refused", lambda: (answer := short.request("GET")).status_code != 200 and answer
    )
    problem(answer, 401, "invalid_user_id")
    with short.stream() as stream:
        assert stream.status == 401


def test_notify_takes_no_user(cluster, user):
    problem(cluster.publish(headers=user.bearer, user_ids=[user.name], title="x"), 403, "forbidden")
    problem(cluster.publish(headers={}, user_ids=[user.name], title="x"), 401, "unauthorized")
    for key in ("ck_", "ck_" + "A" * 43, "ck_" + "A" * 500, "nonsense"):
        problem(cluster.publish(headers={"Authorization": f"Bearer {key}"}, user_ids=[user.name], title="x"), 401, "unauthorized")
        problem(cluster.publish(headers={"X-API-Key": key}, user_ids=[user.name], title="x"), 401, "unauthorized")
    assert user.count()["unread"] == 0


# --- Cookies -------------------------------------------------------------------------------------------------------------


def by_cookie(cluster, user, method, path="", **headers):
    return cluster.http.request(
        method, f"{cluster.url}/v1/notifications{path}", headers={"Cookie": f"theme=dark; carillon_token={user.token}", **headers}
    )


def test_cookie_counts_on_user_routes(cluster, user):
    made = cluster.notify(user)
    answer = by_cookie(cluster, user, "GET")
    assert [item["id"] for item in answer.json()["data"]] == [made["id"]]
    with Stream(f"{cluster.url}/v1/notifications/sse", {"Cookie": f"carillon_token={user.token}"}) as stream:
        assert stream.ready().seq == 1
        cluster.notify(user)
        stream.expect("message")


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example:80", "localhost:3000"])
def test_write_by_cookie_needs_an_origin_that_is_allowed(cluster, user, origin):
    made = cluster.notify(user)
    headers = {} if origin is None else {"Origin": origin}
    for method, path in (("PATCH", f"/{made['id']}/read"), ("POST", "/seen"), ("POST", "/read-all"), ("DELETE", f"/{made['id']}"), ("POST", "/stream-ticket")):
        problem(by_cookie(cluster, user, method, path, **headers), 403, "forbidden")
    assert user.count()["unread"] == user.count()["unseen"] == 1


def test_write_by_cookie_from_this_site_or_a_listed_one(cluster, user):
    for origin in (cluster.url, PAGE, "http://127.0.0.1:5173"):
        made = cluster.notify(user)
        answer = by_cookie(cluster, user, "PATCH", f"/{made['id']}/read", Origin=origin)
        assert answer.status_code == 200 and answer.json()["read"]
    assert by_cookie(cluster, user, "POST", "/stream-ticket", Origin=PAGE).status_code == 200


def test_bearer_needs_no_origin(cluster, user):
    assert user.request("POST", "/seen", headers={"Origin": "https://evil.example"}).status_code in (200, 204)


# --- Other origins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/sse"])
def test_listed_page_may_read_the_answer(cluster, user, path):
    if path == "/sse":
        with user.stream(headers={"Origin": PAGE}) as stream:
            stream.ready()
            headers = stream.headers
    else:
        headers = user.request("GET", path, headers={"Origin": PAGE}).headers
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-credentials"] == "true"
    assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize("path", ["", "/sse"])
def test_other_pages_may_not(user, path):
    origin = {"Origin": "https://evil.example"}
    if path == "/sse":
        with user.stream(headers=origin) as stream:
            headers = stream.headers
    else:
        headers = user.request("GET", path, headers=origin).headers
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(("path", "method"), [("", "GET"), ("/sse", "GET"), ("/read-all", "PATCH"), ("/stream-ticket", "POST")])
def test_preflight(cluster, path, method):
    answer = cluster.http.options(
        f"{cluster.url}/v1/notifications{path}",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type, last-event-id",
        },
    )
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert method in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "last-event-id"))


def test_errors_can_be_read_by_a_listed_page_too(cluster):
    answer = cluster.http.get(f"{cluster.url}/v1/notifications", headers={"Origin": PAGE})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == PAGE
    with Stream(f"{cluster.url}/v1/notifications/sse", {"Origin": PAGE}) as stream:
        assert stream.status == 401
        assert stream.headers["access-control-allow-origin"] == PAGE


# --- Tickets -------------------------------------------------------------------------------------------------------------


def ticket_url(cluster, ticket, base=None):
    return f"{base or cluster.url}/v1/notifications/sse?" + urllib.parse.urlencode({"ticket": ticket})


def test_ticket_opens_a_stream_and_its_cookie_the_next_one(cluster, user):
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    url = ticket_url(cluster, ticket)
    with Stream(url) as stream:
        ready = stream.ready()
        first = cluster.notify(user)
        assert stream.expect("message").json["id"] == first["id"]
        set_cookie = stream.headers["set-cookie"]
    name, _, rest = set_cookie.partition("=")
    value, *attributes = rest.split(";")
    attributes = {attribute.strip().lower() for attribute in attributes}
    assert name == "carillon_token" and value and "httponly" in attributes
    life = next(int(attribute.split("=")[1]) for attribute in attributes if attribute.startswith("max-age="))
    expiry = jwt.decode(user.token, options={"verify_signature": False})["exp"]
    assert abs(life - (expiry - time.time())) < 30, "the cookie ends with the token"

    missed = cluster.notify(user)
    cookie = {"Cookie": f"carillon_token={value}"}
    with Stream(url, {**cookie, "Last-Event-ID": ready.id.rsplit("-", 1)[0] + "-1"}) as stream:
        stream.ready()
        assert stream.expect("message").json["id"] == missed["id"]
    with Stream(url) as stream:
        assert stream.status == 401
        assert stream.error()["code"] == "notifications_m.invalid_user_id"


def test_ticket_is_good_on_any_edge_but_only_once(cluster, user):
    ticket = user.write("POST", "/stream-ticket", base=cluster.edges[0])["ticket"]
    with Stream(ticket_url(cluster, ticket, cluster.edges[1])) as stream:
        stream.ready()
    with Stream(ticket_url(cluster, ticket, cluster.edges[0])) as stream:
        assert stream.status == 401


def test_used_ticket_with_somebody_elses_cookie(cluster, user, other):
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    with Stream(ticket_url(cluster, ticket)) as stream:
        stream.ready()
    with Stream(ticket_url(cluster, ticket), {"Cookie": f"carillon_token={other.token}"}) as stream:
        assert stream.status == 401


@pytest.mark.parametrize("ticket", ["nonsense", "ct_00.00", "ct_", "cs_00.00", "{}", "🔔"])
def test_forged_ticket(cluster, ticket):
    with Stream(ticket_url(cluster, ticket)) as stream:
        assert stream.status == 401


def test_ticket_that_was_tampered_with(cluster, user):
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    for place in (4, len(ticket) // 2, len(ticket) - 1):
        changed = ticket[:place] + ("0" if ticket[place] != "0" else "1") + ticket[place + 1 :]
        with Stream(ticket_url(cluster, changed)) as stream:
            assert stream.status == 401
    with Stream(ticket_url(cluster, ticket)) as stream:
        stream.ready()


def test_ticket_is_no_token(cluster, user):
    ticket = user.write("POST", "/stream-ticket")["ticket"]
    problem(user.request("GET", headers={"Authorization": f"Bearer {ticket}"}), 401, "invalid_user_id")


def test_ticket_says_how_long_it_is_good(user):
    answer = user.write("POST", "/stream-ticket")
    left = (datetime.fromisoformat(answer["expires_at"]) - datetime.now(timezone.utc)).total_seconds()
    assert 0 < left <= 31


# --- The end of a token --------------------------------------------------------------------------------------------------


def test_stream_is_warned_and_ends_with_its_token(cluster, user):
    short = User(cluster, user.name, cluster.token(user.name, "--ttl", "8s"))
    with short.stream() as stream:
        connection = stream.ready().json["connection_id"]
        warning = stream.expect("auth_expiring")
        expiry = jwt.decode(short.token, options={"verify_signature": False})["exp"]
        assert warning.json["connection_id"] == connection and warning.id is None
        assert datetime.fromisoformat(warning.json["expires_at"]).timestamp() == expiry
        close = stream.expect("close")
        assert close.json == {"reason": "token_expired"} and close.retry >= 500
        assert stream.end() == []
        assert time.time() >= expiry - 1


@pytest.mark.parametrize("renewing_edge", [0, 1])
def test_renewed_stream_outlives_its_token(cluster, user, renewing_edge):
    token = cluster.token(user.name, "--ttl", "8s")
    short = User(cluster, user.name, token)
    with short.stream(cluster.edges[0]) as renewed, short.stream(cluster.edges[0]) as left_alone:
        connection = renewed.ready().json["connection_id"]
        left_alone.ready()
        answer = user.request("POST", "/stream-renew", base=cluster.edges[renewing_edge], json={"connection_id": connection})
        assert answer.status_code == 200, answer.text
        left_alone.until("the close of the stream that was not renewed", lambda block: block.name == "close")
        made = cluster.notify(user)
        blocks = renewed.until("a message after the old token's end", lambda block: block.name == "message")
        assert {block.name for block in blocks} <= {"auth_expiring", "message"}
        assert blocks[-1].json["id"] == made["id"]


def test_renewal_is_for_the_own_streams_only(cluster, user, other):
    with user.stream() as stream:
        connection = stream.ready().json["connection_id"]
        problem(other.request("POST", "/stream-renew", json={"connection_id": connection}), 404, "not_found")
        unknown = "0193" + connection[4:-4] + "0000"
        problem(user.request("POST", "/stream-renew", json={"connection_id": unknown}), 404, "not_found")
        problem(user.request("POST", "/stream-renew", json={"connection_id": "x"}), 422, "invalid_body")
        problem(user.request("POST", "/stream-renew", json={}), 422, "invalid_body")
        problem(user.request("POST", "/stream-renew", content=b"{"), 400, "invalid_body")
        cluster.notify(user)
        stream.expect("message")


def test_stream_of_a_customer_that_the_token_does_not_know(cluster, user):
    limited = User(cluster, user.name, cluster.token(user.name, "--customer", "a"))
    with limited.stream(customer_id="b") as stream:
        assert stream.status == 403
        assert stream.error()["code"] == "notifications_m.forbidden"
    with limited.stream(customer_id="a") as stream:
        stream.ready()
