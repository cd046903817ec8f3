"""POST /v1/internal/notify: every field, what it means, and what the inbox and the stream make of it."""

import re
from datetime import datetime, timedelta, timezone

import pytest

from harness import eventually, problem

UUID7 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")

FIELDS = {
    "id", "seq", "type", "event", "level", "priority", "title", "content", "link_url", "link_text", "customer_id", "rec_type",
    "rec_id", "data", "read", "read_at", "seen", "archived", "created_at", "expires_at",
}  # fmt: skip


def at(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_every_field_comes_back_in_the_list_and_on_the_stream(cluster, user):
    given = {
        "type": "chat",
        "event": "message_received",
        "title": "New message",
        "content": "Line one\nline two\ttabbed",
        "level": "SUCCESS",
        "priority": "URGENT",
        "link_url": "/chat/room/456",
        "link_text": "View message",
        "customer_id": "acme",
        "rec_type": "room",
        "rec_id": "456",
        "data": {"room": 456, "nested": {"list": [1, 2.5, None, True, "é"]}},
    }
    with user.stream() as stream:
        stream.ready()
        expires = at(3600)
        answer = cluster.publish(**given, user_ids=[user.name], channels=["in_app"], expires_at=expires)
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert body["skipped"] == []
        [made] = body["notifications"]
        assert made["user_id"] == user.name and made["seq"] == 1
        assert UUID7.match(made["id"])
        shown = stream.expect("message")
    [listed] = user.list()["data"]
    assert set(listed) == FIELDS
    assert {name: listed[name] for name in given} == given
    assert (listed["id"], listed["seq"]) == (made["id"], 1)
    assert (listed["read"], listed["seen"], listed["archived"], listed["read_at"]) == (False, False, False, None)
    for name in ("created_at", "expires_at"):
        assert listed[name].endswith("Z") and datetime.fromisoformat(listed[name])
    wanted = datetime.fromisoformat(expires)
    assert abs(datetime.fromisoformat(listed["expires_at"]) - wanted) < timedelta(milliseconds=2)
    assert shown.seq == 1
    assert shown.json == {**listed, "unread": 1}
    assert user.get(f"/{made['id']}") == listed


def test_least_that_is_needed_is_a_title_and_a_user(cluster, user):
    made = cluster.publish(user_id=user.name, title="Hi").json()["notifications"][0]
    item = user.get(f"/{made['id']}")
    assert (item["type"], item["event"], item["level"]) == ("SYSTEM", None, "INFO")
    assert item["content"] is None and item["data"] is None and item["customer_id"] is None


def test_synonyms_on_input(cluster, user):
    made = cluster.publish(userId=user.name, title="Hi", body="the text", link="https://example.com/x").json()["notifications"][0]
    item = user.get(f"/{made['id']}")
    assert (item["content"], item["link_url"]) == ("the text", "https://example.com/x")


def test_alias_of_a_type_is_that_type(cluster, user):
    made = cluster.notify(user, type="chats", event="message_received")
    assert user.get(f"/{made['id']}")["type"] == "chat"


def test_title_level_and_priority_come_from_the_catalogue(cluster, user):
    made = cluster.publish(user_ids=[user.name], type="chat", event="mentioned").json()["notifications"][0]
    item = user.get(f"/{made['id']}")
    assert (item["title"], item["priority"]) == ("You were mentioned", "HIGH")
    made = cluster.publish(user_ids=[user.name], type="CARRIER_REJECTED").json()["notifications"][0]
    item = user.get(f"/{made['id']}")
    assert (item["title"], item["level"], item["event"]) == ("Carrier rejected", "WARNING", None)


@pytest.mark.parametrize("level", ["INFO", "SUCCESS", "WARNING", "ERROR"])
def test_level_as_type_is_that_level_of_type_system(cluster, user, level):
    made = cluster.notify(user, type=level)
    item = user.get(f"/{made['id']}")
    assert (item["type"], item["level"]) == ("SYSTEM", level)


def test_user_named_twice_is_notified_once(cluster, user, other):
    made = cluster.publish(user_ids=[user.name, other.name, user.name], title="Once").json()["notifications"]
    assert sorted(entry["user_id"] for entry in made) == sorted([user.name, other.name])
    assert len(user.ids()) == 1 and len(other.ids()) == 1


def test_each_user_has_a_sequence_of_its_own_without_holes(cluster, user, other):
    assert [cluster.notify(user)["seq"] for _ in range(3)] == [1, 2, 3]
    both = {entry["user_id"]: entry["seq"] for entry in cluster.notify([user, other])}
    assert both == {user.name: 4, other.name: 1}


def test_thousand_users_in_one_call(cluster):
    base = cluster.unique("-")
    names = [f"{base}{number}" for number in range(1000)]
    answer = cluster.publish(user_ids=names, title="To all")
    assert answer.status_code == 201
    made = answer.json()["notifications"]
    assert [entry["user_id"] for entry in made] == names
    assert len({entry["id"] for entry in made}) == 1000
    last = cluster.user(names[-1])
    assert last.ids() == [made[-1]["id"]]


def test_key_in_its_own_header(cluster, user):
    answer = cluster.publish(headers={"X-API-Key": cluster.api_key}, user_ids=[user.name], title="Hi")
    assert answer.status_code == 201


def test_without_in_app_it_has_no_number_and_is_in_no_list(cluster, user):
    answer = cluster.publish(user_ids=[user.name], title="Hi", channels=["webhook"])
    assert answer.status_code == 201
    assert [entry["seq"] for entry in answer.json()["notifications"]] == [None]
    assert user.ids() == []
    assert user.count()["unread"] == 0
    assert cluster.notify(user)["seq"] == 1


# --- Text and links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("a\r\nb", "ab"),
        ("a\u0000b", "ab"),
        ("data: x\n\nevent: close\ndata: {}", "data: xevent: closedata: {}"),
        ("tab\tbell\u0007del\u007fnel\u0085", "tabbelldelnel"),
        ("\u202eevil\u202c \u2066x\u2069", "evil x"),
        ("line\u2028separator\u2029stays", "line\u2028separator\u2029stays"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \"quoted\" \\ </script>", "\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \"quoted\" \\ </script>"),
    ],
)
def test_title_never_breaks_a_frame(cluster, user, given, stored):
    with user.stream() as stream:
        stream.ready()
        made = cluster.notify(user, title=given)
        block = stream.expect("message")
        assert len(block.lines) == 2, block.lines
        assert block.json["id"] == made["id"] and block.json["title"] == stored
        cluster.notify(user, title="after")
        assert stream.expect("message").json["title"] == "after"
    assert user.get(f"/{made['id']}")["title"] == stored


def test_content_keeps_newline_and_tab_only(cluster, user):
    made = cluster.notify(user, content="one\r\ntwo\tthree\u0000\u001b[31m\u202e")
    assert user.get(f"/{made['id']}")["content"] == "one\ntwo\tthree[31m"


@pytest.mark.parametrize(
    "link",
    ["https://example.com/a?b=c#d", "http://example.com", "HTTPS://EXAMPLE.COM/", "mailto:a@example.com", "/chat/room/456", "/", "/a?b=//c"],
)
def test_link_that_may_be(cluster, user, link):
    made = cluster.notify(user, link_url=link)
    assert user.get(f"/{made['id']}")["link_url"] == link


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "\u0001javascript:alert(1)", "data:text/html,x", "vbscript:x",
        "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "ftp://example.com", "file:///etc/passwd", " https://x",
        "https://", "blob:https://x",
    ],
)  # fmt: skip
def test_link_that_may_not_be(cluster, user, link):
    body = problem(cluster.publish(user_ids=[user.name], title="Hi", link_url=link), 422, "invalid_body")
    assert [error["pointer"] for error in body["errors"]] == ["/link_url"]
    assert user.count()["unread"] == 0


def test_texts_at_their_bounds(cluster, user):
    # Characters are Unicode scalars: four bytes each here.
    title, content = "\U0001f514" * 200, "\U0001f514" * 4000
    link = "https://example.com/" + "a" * 1980
    data = {"k": "x" * (8 * 1024 - 8)}
    made = cluster.notify(user, title=title, content=content, link_url=link, data=data)
    item = user.get(f"/{made['id']}")
    assert (item["title"], item["content"], item["link_url"], item["data"]) == (title, content, link, data)


# --- Time ----------------------------------------------------------------------------------------------------------------


def test_scheduled_one_gets_its_number_when_due(cluster, user):
    with user.stream() as stream:
        stream.ready()
        made = cluster.notify(user, title="Later", deliver_at=at(6))
        assert made["seq"] is None
        assert user.ids() == [] and user.count()["unread"] == 0
        assert user.request("GET", f"/{made['id']}").status_code in (200, 404)
        first = cluster.notify(user, title="Now")
        assert first["seq"] == 1
        assert stream.expect("message").json["title"] == "Now"
        block = stream.expect("message")
        assert (block.json["id"], block.seq, block.json["unread"]) == (made["id"], 2, 2)
    assert set(user.ids()) == {made["id"], first["id"]}


def test_scheduled_for_the_past_is_due_at_once(cluster, user):
    assert cluster.notify(user, deliver_at=at(-60))["seq"] == 1


def test_expired_one_disappears_as_a_delete(cluster, user):
    with user.stream() as stream:
        stream.ready()
        made = cluster.notify(user, expires_at=at(6))
        assert stream.expect("message").json["id"] == made["id"]
        block = stream.expect("delete")
        assert block.json == {"id": made["id"], "seq": 2, "unread": 0}
    problem(user.request("GET", f"/{made['id']}"), 404, "not_found")
    assert user.ids() == []
    assert user.count()["unread"] == 0


def test_resume_shows_the_creation_of_an_expired_one_as_delete(cluster, user):
    position = user.count()["last_event_id"]
    made = cluster.notify(user, expires_at=at(3))
    eventually("the notification expired", lambda: user.ids() == [])
    with user.stream(last_event_id=position) as stream:
        assert stream.ready().id == position
        for seq, unread in ((1, 1), (2, 0)):
            block = stream.expect("delete")
            assert (block.seq, block.json) == (seq, {"id": made["id"], "seq": seq, "unread": unread})


# --- Collapse ------------------------------------------------------------------------------------------------------------


def test_collapse_key_replaces_an_unread_one(cluster, user):
    with user.stream() as stream:
        stream.ready()
        old = cluster.notify(user, title="1 new message", collapse_key="room-1")
        cluster.notify(user, title="Another room", collapse_key="room-2")
        new = cluster.notify(user, title="2 new messages", collapse_key="room-1")
        assert [stream.expect("message").seq for _ in range(2)] == [1, 2]
        gone = stream.expect("delete")
        assert gone.json == {"id": old["id"], "seq": 3, "unread": 1}
        shown = stream.expect("message")
        assert (shown.json["id"], shown.seq, shown.json["unread"]) == (new["id"], 4, 2)
    assert new["seq"] == 4
    titles = {item["title"] for item in user.list()["data"]}
    assert titles == {"2 new messages", "Another room"}
    assert user.count()["unread"] == 2


def test_collapse_key_leaves_a_read_one(cluster, user):
    old = cluster.notify(user, collapse_key="k")
    user.write("PATCH", f"/{old['id']}/read")
    new = cluster.notify(user, collapse_key="k")
    assert set(user.ids()) == {old["id"], new["id"]}


def test_collapse_key_leaves_one_that_all_read_marked(cluster, user):
    old = cluster.notify(user, collapse_key="k")
    user.write("POST", "/read-all")
    new = cluster.notify(user, collapse_key="k")
    assert set(user.ids()) == {old["id"], new["id"]}
    assert user.count()["unread"] == 1
