"""Direct events: shown to whoever is connected, and stored nowhere."""

import pytest

from carillon import APIS, EDGES, KEY, URL, Stream, call, new_user, notify, problem, token


def send(base=APIS[0], **body):
    return call("POST", "/v1/notifications/sse", KEY, base=base, json={"title": "now or never", **body})


def test_a_direct_event_reaches_every_stream_of_its_users_and_leaves_nothing(request):
    user, other = new_user(), new_user()
    mine, theirs = token(user), token(other)
    with Stream(mine, EDGES[0]) as one, Stream(mine, EDGES[1]) as two, Stream(theirs, URL) as third:
        start = [stream.expect("ready").id for stream in (one, two, third)]
        answer = send(user_ids=[user, user], type="chat", data={"typing": True}, link="/chat/1")
        assert answer.status_code == 200 and answer.json()["edges"] == 2 and answer.json()["message"]
        for stream in (one, two):
            event = stream.next()
            assert event.name == "message" and not event.has_id
            assert event.data["ephemeral"] is True and event.data["title"] == "now or never" and event.data["data"] == {"typing": True}
            assert "seq" not in event.data and "unread" not in event.data
        stored = notify([user, other], "stored")
        assert one.next().data["id"] == stored[0]["id"] and two.next().data["id"] == stored[0]["id"]
        # The other user was not shown the direct event.
        assert third.next().data["id"] == stored[1]["id"]
        listed = call("GET", "/v1/notifications", mine).json()
        assert [item["title"] for item in listed["data"]] == ["stored"] and listed["unread"] == 1
    # A reconnect resumes as if it had never been.
    with Stream(mine, EDGES[0], last=start[0]) as again:
        again.expect("ready")
        assert again.next().data["title"] == "stored"


def test_a_broadcast_reaches_every_stream_on_every_edge():
    users = [new_user() for _ in range(3)]
    streams = [Stream(token(user), edge) for user in users for edge in EDGES]
    try:
        for stream in streams:
            stream.expect("ready")
        answer = send(broadcast=True, level="WARNING")
        assert answer.status_code == 200 and answer.json()["edges"] == len(EDGES)
        for stream in streams:
            event = stream.next()
            assert event.data["ephemeral"] is True and event.data["level"] == "WARNING" and not event.has_id
    finally:
        for stream in streams:
            stream.close()


def test_a_direct_event_of_a_customer_is_hidden_like_any_other():
    user = new_user()
    with Stream(token(user, "--customer", "a"), EDGES[0]) as limited, Stream(token(user), EDGES[0], path="/v1/notifications/sse?customer_id=b") as only:
        limited.expect("ready")
        only.expect("ready")
        for customer in ("b", "a"):
            assert send(user_id=user, customer_id=customer, title=f"of {customer}").status_code == 200
        assert send(user_id=user, title="of none").status_code == 200
        assert limited.next().data["title"] == "of a" and limited.next().data["title"] == "of none"
        assert only.next().data["title"] == "of b"
        notify(user, "the last", customer_id="b")
        assert only.next().data["title"] == "the last"


@pytest.mark.parametrize("body", [
    {}, {"user_ids": []}, {"broadcast": "yes"}, {"broadcast": True, "user_ids": ["a"]}, {"user_id": "a", "deliver_at": "2999-01-01T00:00:00Z"},
    {"user_id": "a", "collapse_key": "k"}, {"user_id": "a", "channels": ["email"]}, {"user_id": "a", "title": ""},
])
def test_a_wrong_direct_event_is_refused(body):
    problem(send(**body), 422, "invalid_body")


def test_the_largest_direct_event_reaches_all_of_its_users():
    user = new_user()
    others = [new_user() for _ in range(9999)]
    with Stream(token(user), EDGES[0]) as stream:
        stream.expect("ready")
        answer = send(user_ids=[*others, user], content="x" * 4000, data={"y": "z" * 8000})
        assert answer.status_code == 200, answer.text
        assert len(stream.next().data["content"]) == 4000


def test_a_user_cannot_send_one():
    problem(call("POST", "/v1/notifications/sse", token(new_user()), json={"user_id": "a", "title": "t"}), 403, "forbidden")
    problem(call("POST", "/v1/notifications/sse", json={"user_id": "a", "title": "t"}), 401, "unauthorized")


def test_what_is_preferred_holds_for_the_next_event_on_all_streams_that_are_open():
    """Nothing was kept of the user when the streams opened: whoever changes that tells the edges before it answers."""
    user = new_user()
    mine = token(user)
    with Stream(mine, EDGES[0]) as one, Stream(mine, EDGES[1]) as two:
        for stream in (one, two):
            stream.expect("ready")
        for number in range(10):
            for wanted in (False, True):
                answer = call("PUT", "/v1/notifications/preferences", mine, base=APIS[number % len(APIS)], json={"types": {"chat": {"in_app": wanted}}})
                assert answer.status_code == 200, answer.text
                # Of its type, of another one, and for everybody.
                for kind in ("chat", "task"):
                    assert send(APIS[(number + 1) % len(APIS)], user_id=user, type=kind, title=f"{kind} {number} {wanted}").status_code == 200
                for stream in (one, two):
                    for kind in (["chat"] if wanted else []) + ["task"]:
                        assert stream.next().data["title"] == f"{kind} {number} {wanted}"
