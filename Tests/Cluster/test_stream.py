"""The stream, on the edges themselves and through the load balancer."""

import http.client
import socket
import threading
import urllib.parse

import pytest

from carillon import APIS, EDGES, KEY, URL, Stream, call, eventually, local, metrics, new_user, notify, problem, token


@pytest.fixture
def user():
    return new_user()


@pytest.fixture
def jwt(user):
    return token(user)


def test_every_kind_of_change_arrives_in_order(user, jwt):
    with Stream(jwt, EDGES[1]) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-cache, no-transform" and stream.headers["x-accel-buffering"] == "no"
        ready = stream.expect("ready")
        assert 500 <= stream.retry <= 2500 and ready.data["node"] == "edge-2" and ready.data["unread"] == 0
        epoch = ready.id.split("-")[0]
        first = notify(user, "one", base=APIS[0])[0]["id"]
        second = notify(user, "two", base=APIS[1])[0]["id"]
        call("PATCH", f"/v1/notifications/{first}/read", jwt)
        call("POST", "/v1/notifications/seen", jwt)
        call("POST", "/v1/notifications/read-all", jwt)
        call("DELETE", f"/v1/notifications/{second}", jwt)
        third = notify(user, "three", type="chat", customer_id="c")[0]["id"]
        call("POST", "/v1/notifications/read-all", jwt, json={"customer_id": "c"})
        shown = [stream.next() for _ in range(8)]
        assert [event.id for event in shown] == [f"{epoch}-{number}" for number in range(1, 9)]
        assert [event.name for event in shown] == ["message", "message", "update", "update", "read_all", "delete", "message", "read_all"]
        assert [event.data["unread"] for event in shown] == [1, 2, 1, 1, 0, 0, 1, 0]
        assert shown[2].data["id"] == first and shown[2].data["read"] is True
        assert shown[3].data["all"] is True and shown[3].data["unseen"] == 0
        assert shown[5].data["id"] == second and shown[6].data["id"] == third and shown[7].data["customer_id"] == "c"
    with Stream(jwt, EDGES[0], last=f"{epoch}-3") as stream:
        assert stream.expect("ready").id == f"{epoch}-3"
        again = [stream.next() for _ in range(5)]
        assert [(e.id, e.name, e.data) for e in again] == [(e.id, e.name, e.data) for e in shown[3:]]
    with Stream(jwt, URL, path=f"/api/notifications/stream?last_event_id={epoch}-0") as stream:
        stream.expect("ready")
        replay = [stream.next() for _ in range(8)]
        # The second one is gone: its creation is shown as its deletion.
        assert [event.name for event in replay] == ["message", "delete", "update", "update", "read_all", "delete", "message", "read_all"]
        assert [event.data["unread"] for event in replay] == [1, 2, 1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("bad", ["x", "1-", "-1", "1-2-3", "1-99999999999999999999", "1-9223372036854775807", "999-1", "0-0", "%00", "1 - 1"])
def test_a_position_that_cannot_be_resumed_is_resync(user, jwt, bad):
    notify(user)
    with Stream(jwt, EDGES[0], last=bad) as stream:
        assert stream.status == 200
        ready, resync = stream.expect("ready"), stream.expect("resync")
        assert ready.id == resync.id == resync.data["last_event_id"] and resync.data["unread"] == 1
        notify(user, "live")
        assert stream.expect("message").data["title"] == "live"


def test_list_and_stream_join_without_a_seam(user, jwt):
    notify(user, "before")
    last = call("GET", "/v1/notifications", jwt).json()["last_event_id"]
    missed = notify(user, "between")[0]["id"]
    with Stream(jwt, URL, last=last) as stream:
        stream.expect("ready")
        assert stream.expect("message").data["id"] == missed


def test_no_text_breaks_a_frame(user, jwt):
    with Stream(jwt, EDGES[0]) as stream:
        stream.expect("ready")
        notify(user, "a\r\n\r\nevent: close\ndata: x\u2028\u0000\u202e", content="one\r\ntwo\n\nid: 9-9\t.", data={"x\n": "\r\n\n"})
        event = stream.expect("message")
        assert event.data["title"] == "aevent: closedata: x\u2028" and event.data["content"] == "one\ntwo\n\nid: 9-9\t."
        assert event.data["data"] == {"x\n": "\r\n\n"}


def test_a_ticket_is_used_once_and_its_cookie_goes_on(user, jwt):
    ticket = call("POST", "/v1/notifications/stream-ticket", jwt).json()["ticket"]
    path = f"/v1/notifications/sse?ticket={ticket}"
    with Stream(base=URL, path=path) as stream:
        ready = stream.expect("ready")
        cookie = stream.cookies[0]
        assert cookie.startswith("carillon_token=") and "HttpOnly" in cookie
    missed = notify(user, "missed")[0]["id"]
    with Stream(base=URL, path=path, last=ready.id, headers={"Cookie": cookie.split(";")[0]}) as stream:
        stream.expect("ready")
        assert stream.expect("message").data["id"] == missed
    with Stream(base=URL, path=path, read=False) as stream:
        assert stream.status == 401
    with Stream(base=URL, path="/v1/notifications/sse?ticket=ct_00.00", read=False) as stream:
        assert stream.status == 401


def test_the_cookie_opens_a_stream(user, jwt):
    with Stream(base=EDGES[0], headers={"Cookie": "other=1; carillon_token=" + jwt, "Origin": "http://localhost:1234"}) as stream:
        stream.expect("ready")
        assert stream.headers["access-control-allow-origin"] == "http://localhost:1234"


@pytest.mark.parametrize("bad", [None, "x", "a.b.c"])
def test_a_bad_token_is_401(bad):
    with Stream(bad, EDGES[0], read=False) as stream:
        assert stream.status == 401


def test_filters_hide_and_move_along(user):
    limited = token(user, "--customer", "a")
    notify(user, "earlier", customer_id="b")
    with Stream(limited, EDGES[0]) as stream:
        ready = stream.expect("ready")
        assert ready.data["unread"] == 0
        notify(user, "mine", customer_id="a")
        notify(user, "theirs", customer_id="b")
        notify(user, "nobody's")
        mine, hidden, common = stream.next(), stream.next(), stream.next()
        assert (mine.name, mine.data["unread"]) == ("message", 1)
        assert hidden.name == "position" and hidden.id.endswith("-3")
        assert (common.name, common.data["unread"]) == ("message", 2)
    with Stream(limited, EDGES[1], last=ready.id) as stream:
        assert stream.expect("ready").data["unread"] == 0
        again = [stream.next() for _ in range(3)]
        assert [e.data and e.data["unread"] for e in again] == [1, None, 2]
    with Stream(limited, EDGES[0], path="/v1/notifications/sse?customer_id=b", read=False) as stream:
        assert stream.status == 403
    with Stream(token(user), EDGES[0], path="/v1/notifications/sse?customer_id=a", last=ready.id) as stream:
        stream.expect("ready")
        assert [stream.next().name for _ in range(3)] == ["message", "position", "position"]


def test_the_eleventh_stream_evicts_the_first_wherever_they_are(user, jwt):
    streams = []
    for number in range(11):
        streams.append(Stream(jwt, EDGES[number % 2]))
        streams[-1].expect("ready")
    close = streams[0].expect("close")
    assert close.data == {"reason": "evicted"} and streams[0].retry == 60000
    assert streams[0].next() is None
    notify(user, "for ten")
    for stream in streams[1:]:
        assert stream.expect("message").data["title"] == "for ten"
    with Stream(jwt, EDGES[1], last=streams[0].last, read=False) as again:
        assert again.status == 204
    for stream in streams:
        stream.close()


def test_a_stream_ends_with_its_token_and_can_be_renewed(user):
    with Stream(token(user, "--ttl", "8s"), EDGES[0]) as stream:
        stream.expect("ready")
        stream.expect("auth_expiring")
        assert stream.expect("close").data == {"reason": "token_expired"}
        assert stream.next() is None
    fresh = token(user)
    with Stream(token(user, "--ttl", "8s"), EDGES[0]) as stream:
        connection = stream.expect("ready").data["connection_id"]
        assert stream.expect("auth_expiring").data["connection_id"] == connection
        answer = call("POST", "/v1/notifications/stream-renew", fresh, base=EDGES[1], json={"connection_id": connection})
        assert answer.status_code == 200, answer.text
        problem(
            call("POST", "/v1/notifications/stream-renew", token(new_user()), base=EDGES[1], json={"connection_id": connection}), 404, "not_found")
        # The old token's end passes: a stream that had not been renewed would have ended before this one.
        with Stream(token(user, "--ttl", "10s"), EDGES[1]) as other:
            other.expect("ready")
            other.expect("auth_expiring")
            other.expect("close")
        notify(user, "still here")
        assert stream.expect("message").data["title"] == "still here"


def test_an_edge_hears_of_its_own_users_only(user, jwt):
    with Stream(jwt, EDGES[0]) as stream:
        stream.expect("ready")
        before = metrics(EDGES[1])["carillon_redis_messages_total"], metrics(EDGES[0])["carillon_redis_messages_total"]
        for number in range(50):
            notify(user, str(number))
        for _ in range(50):
            stream.expect("message")
        assert metrics(EDGES[0])["carillon_redis_messages_total"] - before[1] == 50
        assert metrics(EDGES[1])["carillon_redis_messages_total"] == before[0]


def test_a_keep_alive_connection_may_carry_requests_and_then_a_stream(user, jwt):
    address = urllib.parse.urlsplit(URL)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    headers = {"Authorization": "Bearer " + jwt}
    for _ in range(3):
        connection.request("GET", "/v1/notifications/count", headers=headers)
        assert connection.getresponse().read()
        connection.request("POST", "/v1/notifications/stream-ticket", headers=headers)
        assert connection.getresponse().read()
    connection.request("GET", "/v1/notifications/sse", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline().startswith(b"retry:")
    connection.close()


def test_a_reader_that_stops_is_brought_up_to_date(user, jwt):
    with Stream(jwt, EDGES[0], read=False) as stream:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for number in range(300):
            notify(user, str(number), content="x" * 3900)
        threading.Thread(target=stream._read, daemon=True).start()
        stream.expect("ready")
        assert [stream.expect("message").data["title"] for _ in range(300)] == [str(number) for number in range(300)]
        notify(user, "last")
        assert stream.expect("message").data["title"] == "last"
