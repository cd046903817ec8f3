"""The inbox: lists, counts, and the user's own changes, each with what it says on the stream."""

import urllib.parse
from datetime import datetime

import pytest

from harness import problem


def fill(cluster, user, count, **fields):
    """Ids in the order of their making."""
    return [cluster.notify(user, title=f"Number {number}", **fields)["id"] for number in range(count)]


# --- Lists ---------------------------------------------------------------------------------------------------------------


def test_empty_inbox(user):
    page = user.list()
    assert page["data"] == [] and page["page"] == {"next": None, "limit": 50}
    assert (page["unread"], page["unseen"]) == (0, 0)
    assert page["last_event_id"].endswith("-0")


def test_newest_first(cluster, user):
    ids = fill(cluster, user, 5)
    user.write("PATCH", f"/{ids[4]}/read")
    user.write("PATCH", f"/{ids[1]}/read")
    assert user.ids(order="newest") == ids[::-1]


def test_unread_first_is_the_default(cluster, user):
    ids = fill(cluster, user, 5)
    user.write("PATCH", f"/{ids[4]}/read")
    user.write("PATCH", f"/{ids[1]}/read")
    expected = [ids[3], ids[2], ids[0], ids[4], ids[1]]
    assert user.ids() == expected == user.ids(order="unread_first")


def test_unread_first_after_all_read_and_one_unread_again(cluster, user):
    ids = fill(cluster, user, 4)
    user.write("POST", "/read-all")
    user.write("PATCH", f"/{ids[1]}", {"read": False})
    new = cluster.notify(user)["id"]
    assert user.ids() == [new, ids[1], ids[3], ids[2], ids[0]]
    assert user.ids(status="unread") == [new, ids[1]]
    assert user.count()["unread"] == 2


@pytest.mark.parametrize("order", ["unread_first", "newest"])
@pytest.mark.parametrize("limit", [1, 3, 4, 12, 200])
def test_cursor_pages_are_the_whole_list(cluster, user, order, limit):
    ids = fill(cluster, user, 12)
    for index in (0, 5, 11):
        user.write("PATCH", f"/{ids[index]}/read")
    whole = user.ids(order=order)
    assert sorted(whole) == sorted(ids)
    collected, cursor = [], None
    for _ in range(13):
        page = user.list(order=order, limit=limit, **({"after": cursor} if cursor else {}))
        assert len(page["data"]) <= limit and page["page"]["limit"] == limit
        collected += [item["id"] for item in page["data"]]
        cursor = page["page"]["next"]
        if cursor is None:
            break
    assert collected == whole


def test_cursor_is_not_moved_by_what_comes_in(cluster, user):
    ids = fill(cluster, user, 4)
    page = user.list(order="newest", limit=2)
    cluster.notify(user)
    assert user.ids(order="newest", limit=2, after=page["page"]["next"]) == [ids[1], ids[0]]


@pytest.mark.parametrize("order", ["unread_first", "newest"])
def test_offset_pages_are_the_whole_list(cluster, user, order):
    ids = fill(cluster, user, 7)
    user.write("PATCH", f"/{ids[6]}/read")
    whole = user.ids(order=order)
    collected = [identifier for offset in (0, 3, 6, 9) for identifier in user.ids(order=order, limit=3, offset=offset)]
    assert collected == whole


def test_link_header_leads_to_the_next_page(cluster, user):
    ids = fill(cluster, user, 5, type="chat")
    answer = user.request("GET", "", params={"type": "chat", "limit": 3, "order": "newest"})
    assert answer.links["next"]["url"].startswith("/")
    following = cluster.http.get(cluster.url + answer.links["next"]["url"], headers=user.bearer)
    assert [item["id"] for item in following.json()["data"]] == [ids[1], ids[0]]
    assert "next" not in following.links
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.links["next"]["url"]).query)
    assert query["after"] == [answer.json()["page"]["next"]]


def test_filters(cluster, user):
    chat = cluster.notify(user, type="chat", event="message_received", customer_id="a", priority="LOW")["id"]
    task = cluster.notify(user, type="task", event="task_assigned", customer_id="b", level="WARNING")["id"]
    plain = cluster.notify(user)["id"]
    user.write("PATCH", f"/{task}/read")
    user.write("PATCH", f"/{plain}", {"archived": True})
    table = [
        ({}, {chat, task}),
        ({"archived": "false"}, {chat, task}),
        ({"archived": "true"}, {plain}),
        ({"archived": "all"}, {chat, task, plain}),
        ({"status": "unread"}, {chat}),
        ({"status": "read"}, {task}),
        ({"status": "all"}, {chat, task}),
        ({"status": "read", "archived": "all"}, {task, plain}),
        ({"type": "chat"}, {chat}),
        ({"type": "chats"}, {chat}),
        ({"type": "nothing-of-that-kind"}, set()),
        ({"event": "task_assigned"}, {task}),
        ({"customer_id": "a"}, {chat}),
        ({"customer_id": "c"}, set()),
        ({"level": "WARNING"}, {task}),
        ({"priority": "LOW"}, {chat}),
        ({"type": "task", "status": "unread"}, set()),
    ]
    for parameters, expected in table:
        for order in ("unread_first", "newest"):
            assert set(user.ids(order=order, **parameters)) == expected, parameters
    # The counts are those of the whole inbox, whatever the filter.
    assert user.list(type="task")["unread"] == 1


def test_since_and_until(cluster, user):
    ids = fill(cluster, user, 3)
    times = [user.get(f"/{identifier}")["created_at"] for identifier in ids]
    assert times == sorted(times, key=datetime.fromisoformat)
    assert set(user.ids(since=times[1])) == set(ids[1:])
    assert set(user.ids(until=times[1])) == set(ids[:1])
    assert user.ids(since=times[1], until=times[2]) == [ids[1]]
    assert user.ids(since="2999-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"), ("limit", "201"), ("limit", "-1"), ("limit", "x"), ("limit", "1.5"), ("limit", ""), ("limit", "99999999999999999999"),
        ("offset", "-1"), ("offset", "x"), ("status", "new"), ("archived", "yes"), ("order", "oldest"), ("level", "LOUD"), ("priority", "0"),
        ("since", "yesterday"), ("until", "2026-13-01T00:00:00Z"), ("after", "nonsense"), ("after", ""), ("customer_id", "x" * 129),
        ("customer_id", "a\u0000b"),
    ],
)  # fmt: skip
def test_bad_query_values_are_refused_and_named(user, name, value):
    body = problem(user.request("GET", "", params={name: value}), 422, "invalid_body")
    assert [error["pointer"] for error in body["errors"]] == [name]


def test_cursor_of_another_order_is_refused(cluster, user):
    fill(cluster, user, 2)
    cursor = user.list(order="newest", limit=1)["page"]["next"]
    problem(user.request("GET", "", params={"order": "unread_first", "after": cursor}), 422, "invalid_body")


@pytest.mark.parametrize("path", ["", "/count"])
def test_what_has_not_changed_is_not_sent_again(cluster, user, path):
    fill(cluster, user, 2)
    first = user.request("GET", path)
    tag = first.headers["etag"]
    again = user.request("GET", path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert user.request("GET", path, headers={"If-None-Match": f'"other", W/{tag}'}).status_code == 304
    cluster.notify(user)
    changed = user.request("GET", path, headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.headers["etag"] != tag


def test_position_of_a_list_continues_as_a_stream_without_a_seam(cluster, user):
    fill(cluster, user, 2)
    position = user.list()["last_event_id"]
    missed = fill(cluster, user, 2)
    with user.stream(last_event_id=position) as stream:
        assert stream.ready().id == position
        assert [stream.expect("message").json["id"] for _ in missed] == missed
        [live] = fill(cluster, user, 1)
        assert stream.expect("message").json["id"] == live


# --- One notification ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize("body", [None, {}])
def test_read_without_a_body_means_read(cluster, user, method, body):
    [identifier] = fill(cluster, user, 1)
    with user.stream() as stream:
        stream.ready()
        answer = user.write(method, f"/{identifier}/read", body)
        assert (answer["read"], answer["seen"], answer["archived"], answer["seq"]) == (True, True, False, 2)
        assert datetime.fromisoformat(answer["read_at"]) >= datetime.fromisoformat(answer["created_at"])
        assert user.get(f"/{identifier}") == answer
        block = stream.expect("update")
        assert block.json == {**answer, "unread": 0} and block.seq == 2
    assert (user.count()["unread"], user.count()["unseen"]) == (0, 0)


def test_write_that_changes_nothing_takes_no_number(cluster, user):
    [identifier] = fill(cluster, user, 1)
    first = user.write("PATCH", f"/{identifier}/read")
    position = user.count()["last_event_id"]
    assert user.write("PATCH", f"/{identifier}/read") == first
    assert user.write("PATCH", f"/{identifier}", {"seen": True}) == first
    assert user.write("PATCH", f"/{identifier}", {}) == first
    user.write("POST", "/read-all")
    user.write("POST", "/seen")
    assert user.count()["last_event_id"] == position


def test_flags_one_after_another(cluster, user):
    [identifier] = fill(cluster, user, 1)
    flags = ("read", "seen", "archived")
    steps = [
        ({"seen": True}, (False, True, False), (1, 0)),
        ({"read": True}, (True, True, False), (0, 0)),
        ({"read": False}, (False, True, False), (1, 0)),
        ({"archived": True}, (True, True, True), (0, 0)),
        ({"archived": False}, (True, True, False), (0, 0)),
    ]
    with user.stream() as stream:
        stream.ready()
        for body, expected, counts in steps:
            answer = user.write("PATCH", f"/{identifier}", body)
            assert tuple(answer[flag] for flag in flags) == expected, body
            count = user.count()
            assert (count["unread"], count["unseen"]) == counts, body
            assert (answer["read_at"] is not None) == answer["read"]
            block = stream.expect("update")
            assert block.json == {**answer, "unread": counts[0]}
    assert answer["seq"] == 1 + len(steps)


def test_read_route_takes_flags_too(cluster, user):
    [identifier] = fill(cluster, user, 1)
    assert user.write("POST", f"/{identifier}/read", {"seen": True})["read"] is False
    assert user.write("POST", f"/{identifier}/read", {"read": True})["read"] is True
    assert user.write("POST", f"/{identifier}/read", {"read": False})["read"] is False


@pytest.mark.parametrize("body", [{"title": "x"}, {"read": "yes"}, {"read": None}, {"read": 1}, {"id": "x", "read": True}, []])
def test_other_fields_and_values_are_refused(cluster, user, body):
    [identifier] = fill(cluster, user, 1)
    for path in (f"/{identifier}", f"/{identifier}/read"):
        problem(user.request("PATCH", path, json=body), 422, "invalid_body")
    assert user.count()["unread"] == 1


def test_delete(cluster, user):
    first, second = fill(cluster, user, 2)
    with user.stream() as stream:
        stream.ready()
        assert user.request("DELETE", f"/{first}").status_code == 204
        problem(user.request("DELETE", f"/{first}"), 404, "not_found")
        block = stream.expect("delete")
        assert (block.seq, block.json) == (3, {"id": first, "seq": 3, "unread": 1})
        user.write("PATCH", f"/{second}/read")
        assert user.request("DELETE", f"/{second}").status_code == 204
        assert stream.expect("update").seq == 4
        assert stream.expect("delete").json == {"id": second, "seq": 5, "unread": 0}
    problem(user.request("GET", f"/{first}"), 404, "not_found")
    problem(user.request("PATCH", f"/{first}/read"), 404, "not_found")
    assert user.ids(archived="all") == []


# --- All of it -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_all_read(cluster, user, method):
    ids = fill(cluster, user, 3)
    with user.stream() as stream:
        stream.ready()
        answer = user.write(method, "/read-all")
        block = stream.expect("read_all")
        assert (block.seq, block.json) == (4, {"seq": 4, "unread": 0})
        assert answer == {"updated": 3, "unread": 0, "last_event_id": block.id}
    items = user.list()["data"]
    assert {item["id"] for item in items} == set(ids)
    assert all(item["read"] and item["seen"] and item["read_at"] for item in items)
    assert user.list()["unseen"] == 0
    assert user.write(method, "/read-all")["updated"] == 0
    cluster.notify(user)
    assert user.count()["unread"] == 1


def test_all_read_of_a_type(cluster, user):
    chat = [cluster.notify(user, type="chat", event="message_received")["id"] for _ in range(2)]
    task = cluster.notify(user, type="task", event="task_assigned")["id"]
    with user.stream() as stream:
        stream.ready()
        answer = user.write("POST", "/read-all", {"type": "chat"})
        assert (answer["updated"], answer["unread"]) == (2, 1)
        block = stream.expect("read_all")
        assert block.json == {"seq": 4, "type": "chat", "unread": 1}
        assert answer["last_event_id"] == block.id
    assert user.ids(status="unread") == [task]
    assert set(user.ids(status="read")) == set(chat)
    assert user.count()["by_type"] == {"task": 1}


def test_all_read_of_a_customer(cluster, user):
    cluster.notify(user, customer_id="a")
    left = cluster.notify(user, customer_id="b")["id"]
    with user.stream() as stream:
        stream.ready()
        answer = user.write("POST", "/read-all", {"customer_id": "a"})
        assert (answer["updated"], answer["unread"]) == (1, 1)
        assert stream.expect("read_all").json == {"seq": 3, "customer_id": "a", "unread": 1}
    assert user.ids(status="unread") == [left]


def test_all_read_up_to_one_includes_it(cluster, user):
    ids = fill(cluster, user, 4)
    with user.stream() as stream:
        stream.ready()
        answer = user.write("POST", "/read-all", {"up_to": ids[1]})
        assert (answer["updated"], answer["unread"]) == (2, 2)
        assert stream.expect("read_all").json == {"seq": 5, "up_to_seq": 2, "unread": 2}
    assert set(user.ids(status="unread")) == set(ids[2:])


def test_up_to_compares_the_number_of_the_last_change(cluster, user):
    ids = fill(cluster, user, 3)
    # Its number is 4 now, past the other two.
    user.write("PATCH", f"/{ids[0]}", {"seen": True})
    assert user.write("POST", "/read-all", {"up_to": ids[1]})["updated"] == 1
    assert set(user.ids(status="unread")) == {ids[0], ids[2]}
    assert user.write("POST", "/read-all", {"up_to": ids[0]})["updated"] == 2


def test_filters_of_all_read_together(cluster, user):
    wanted = cluster.notify(user, customer_id="a", type="chat", event="message_received")["id"]
    cluster.notify(user, customer_id="a", type="task", event="task_assigned")
    cluster.notify(user, customer_id="b", type="chat", event="message_received")
    cluster.notify(user, customer_id="a", type="chat", event="message_received")
    assert user.write("POST", "/read-all", {"customer_id": "a", "type": "chat", "up_to": wanted})["updated"] == 1
    assert user.ids(status="read") == [wanted]


def test_all_read_up_to_an_unknown_one(cluster, user, other):
    theirs = cluster.notify(other)["id"]
    fill(cluster, user, 1)
    problem(user.request("POST", "/read-all", json={"up_to": theirs}), 404, "not_found")
    problem(user.request("POST", "/read-all", json={"up_to": "x"}), 400, "invalid_id")
    assert user.count()["unread"] == 1


def test_all_seen(cluster, user):
    ids = fill(cluster, user, 2)
    with user.stream() as stream:
        stream.ready()
        assert user.request("POST", "/seen").status_code in (200, 204)
        block = stream.expect("update")
        assert block.json == {"seq": 3, "all": True, "seen": True, "unread": 2, "unseen": 0}
    count = user.count()
    assert (count["unread"], count["unseen"]) == (2, 0)
    assert all(item["seen"] and not item["read"] for item in user.list()["data"])
    cluster.notify(user)
    assert (user.count()["unread"], user.count()["unseen"]) == (3, 1)
    user.write("PATCH", f"/{ids[0]}/read")
    assert (user.count()["unread"], user.count()["unseen"]) == (2, 1)


# --- Counts --------------------------------------------------------------------------------------------------------------


def test_counts_by_type_and_customer(cluster, user):
    cluster.notify(user, type="chat", event="message_received", customer_id="a")
    cluster.notify(user, type="chat", event="message_received", customer_id="b")
    task = cluster.notify(user, type="task", event="task_assigned", customer_id="a")["id"]
    cluster.notify(user)
    count = user.count()
    assert count["by_type"] == {"chat": 2, "task": 1, "SYSTEM": 1}
    assert (count["unread"], count["unseen"]) == (4, 4)
    count = user.count(customer_id="a")
    assert (count["unread"], count["unseen"], count["by_type"]) == (2, 2, {"chat": 1, "task": 1})
    user.write("PATCH", f"/{task}/read")
    assert user.count()["by_type"] == {"chat": 2, "SYSTEM": 1}
    assert user.count(customer_id="a")["unread"] == 1
    assert user.count(customer_id="nobody")["unread"] == 0
    user.write("POST", "/read-all")
    assert (user.count()["unread"], user.count()["by_type"]) == (0, {})


def test_count_is_right_after_every_write_on_every_node(cluster, user):
    ids = []
    for number in range(10):
        ids.append(cluster.notify(user, url=cluster.apis[number % 2])["id"])
        assert user.get("/count", base=cluster.apis[(number + 1) % 2])["unread"] == number + 1
    for number, identifier in enumerate(ids):
        user.write("PATCH", f"/{identifier}/read", base=cluster.apis[number % 2])
        assert user.get("/count", base=cluster.apis[(number + 1) % 2])["unread"] == 9 - number


def test_badge_for_the_application(cluster, user):
    cluster.notify(user, type="chat", event="message_received", customer_id="a")
    cluster.notify(user)
    url = f"{cluster.url}/v1/internal/users/{urllib.parse.quote(user.name, safe='')}/count"
    answer = cluster.http.get(url, headers=cluster.application)
    assert answer.status_code == 200
    assert answer.json() == user.count()
    assert cluster.http.get(url, headers=cluster.application, params={"customer_id": "a"}).json()["unread"] == 1
    problem(cluster.http.get(url, headers=user.bearer), 403, "forbidden")
    problem(cluster.http.get(url), 401, "unauthorized")
    stranger = cluster.http.get(f"{cluster.url}/v1/internal/users/nobody-yet/count", headers=cluster.application)
    assert (stranger.status_code, stranger.json()["unread"]) == (200, 0)


# --- Who sees what -------------------------------------------------------------------------------------------------------


def test_token_of_some_customers_knows_no_others(cluster, user):
    limited = type(user)(cluster, user.name, cluster.token(user.name, "--customer", "a", "--customer", "c"))
    mine = cluster.notify(user, customer_id="a")["id"]
    theirs = cluster.notify(user, customer_id="b")["id"]
    free = cluster.notify(user)["id"]
    assert set(limited.ids()) == {mine, free}
    assert limited.list()["unread"] == limited.count()["unread"] == 2
    for method, path in (("GET", ""), ("PATCH", "/read"), ("PATCH", ""), ("DELETE", "")):
        body = {"json": {"read": True}} if (method, path) == ("PATCH", "") else {}
        problem(limited.request(method, f"/{theirs}{path}", **body), 404, "not_found")
    problem(limited.request("GET", "", params={"customer_id": "b"}), 403, "forbidden")
    problem(limited.request("GET", "/count", params={"customer_id": "b"}), 403, "forbidden")
    problem(limited.request("POST", "/read-all", json={"customer_id": "b"}), 403, "forbidden")
    problem(limited.request("POST", "/read-all", json={"up_to": theirs}), 404, "not_found")
    assert limited.ids(customer_id="a") == [mine]
    answer = limited.write("POST", "/read-all")
    assert (answer["updated"], answer["unread"]) == (2, 0)
    assert user.ids(status="unread") == [theirs]
    assert user.count()["unread"] == 1


def test_another_users_notification_is_not_there(cluster, user, other):
    theirs = cluster.notify(other)["id"]
    problem(user.request("GET", f"/{theirs}"), 404, "not_found")
    problem(user.request("PATCH", f"/{theirs}/read"), 404, "not_found")
    problem(user.request("POST", f"/{theirs}/read"), 404, "not_found")
    problem(user.request("PATCH", f"/{theirs}", json={"archived": True}), 404, "not_found")
    problem(user.request("DELETE", f"/{theirs}"), 404, "not_found")
    assert other.get(f"/{theirs}")["seq"] == 1
    assert user.ids() == []


@pytest.mark.parametrize(
    "suffix", ["{}", "{user}", "/", "/../x", "%", "%2F", "%25", ":", "a:b:c", "\U0001f514", "é", "e\u0301", " ", "?#&=+", "'; --", "\\", "*", "\u202e"]
)
def test_user_ids_are_opaque(cluster, suffix):
    user = cluster.user(cluster.unique(suffix))
    neighbour = cluster.user(cluster.unique())
    with user.stream(cluster.edges[0]) as one, user.stream(cluster.edges[1]) as two, neighbour.stream() as quiet:
        for stream in (one, two, quiet):
            stream.ready()
        made = cluster.notify(user)
        assert made["user_id"] == user.name
        assert one.expect("message").json["id"] == two.expect("message").json["id"] == made["id"]
        cluster.notify(neighbour, title="mine")
        assert quiet.expect("message").json["title"] == "mine"
    assert user.ids() == [made["id"]]
    path = urllib.parse.quote(user.name, safe="")
    answer = cluster.http.get(f"{cluster.url}/v1/internal/users/{path}/count", headers=cluster.application)
    assert (answer.status_code, answer.json()["unread"]) == (200, 1)
    user.write("PATCH", f"/{made['id']}/read")
    assert user.count()["unread"] == 0


def test_ids_that_look_alike_are_two_users(cluster):
    base = cluster.unique()
    composed, decomposed = cluster.user(base + "é"), cluster.user(base + "e\u0301")
    cluster.notify(composed)
    assert (len(composed.ids()), len(decomposed.ids())) == (1, 0)


def test_longest_user_id(cluster):
    user = cluster.user(cluster.unique().ljust(128, "\U0001f514"))
    with user.stream() as stream:
        stream.ready()
        made = cluster.notify(user)
        assert stream.expect("message").json["id"] == made["id"]
