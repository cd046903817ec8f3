"""PATCH and DELETE /v1/internal/notifications: what was sent is corrected, or taken back, on every tab at once."""

import uuid
from datetime import datetime, timedelta, timezone

import pytest

from harness import problem

ROUTE = "/v1/internal/notifications"


def at(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def patch(cluster, /, **fields):
    return cluster.http.patch(cluster.url + ROUTE, json=fields, headers=cluster.application)


def take_back(cluster, /, **fields):
    return cluster.http.request("DELETE", cluster.url + ROUTE, json=fields, headers=cluster.application)


def updated(answer, count):
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    assert answer.json() == {"updated": count}


def deleted(answer, count):
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    assert answer.json() == {"deleted": count}


def test_a_correction_is_an_update_with_the_whole_notification(cluster, user):
    with user.stream() as stream:
        stream.ready()
        made = cluster.notify(user, title="Gate 7", content="Boarding", data={"gate": 7, "deep": [1.50, "é"]}, link_url="/gates/7", type="chat")
        sent = stream.expect("message").json
        changed = {"title": "Gate 9", "link_url": "/gates/9", "level": "WARNING", "priority": "HIGH", "data": {"gate": 9}, "expires_at": at(3600)}
        updated(patch(cluster, id=made["id"], **changed), 1)
        shown = stream.expect("update")
    assert shown.seq == 2
    assert shown.json == {**sent, **changed, "seq": 2}
    [listed] = user.list()["data"]
    assert {**listed, "unread": 1} == shown.json
    assert user.ids(level="WARNING", priority="HIGH") == [made["id"]]
    # Whoever comes late sees what it is now, under the number of its creation too.
    with user.stream(last_event_id=f"{shown.epoch}-0") as stream:
        stream.ready()
        created, again = stream.expect("message"), stream.expect("update")
    assert created.json["title"] == "Gate 9" and again.json == shown.json


def test_null_takes_away_what_need_not_be_there(cluster, user):
    given = {"content": "x", "link_url": "/x", "link_text": "X", "data": {"a": 1}, "expires_at": at(600)}
    made = cluster.notify(user, **given)
    updated(patch(cluster, id=made["id"], **dict.fromkeys(given)), 1)
    [listed] = user.list()["data"]
    assert {name: listed[name] for name in given} == dict.fromkeys(given)


def test_what_was_read_stays_read_and_what_was_not_stays_unread(cluster, user):
    record = {"rec_type": "flight", "rec_id": cluster.unique()}
    for _ in range(4):
        cluster.notify(user, **record)
    user.write("POST", "/read-all")
    marked = user.ids()
    fresh = cluster.notify(user, **record)["id"]
    single = cluster.notify(user, **record)["id"]
    user.write("PATCH", f"/{single}/read")
    before = {item["id"]: (item["read"], item["seen"], item["read_at"]) for item in user.list()["data"]}
    updated(patch(cluster, **record, title="Later"), 6)
    after = {item["id"]: (item["read"], item["seen"], item["read_at"]) for item in user.list()["data"]}
    assert after == before and not after[fresh][0] and all(after[other][0] for other in (*marked, single))
    assert user.count()["unread"] == 1
    assert {item["title"] for item in user.list()["data"]} == {"Later"}


def test_a_correction_that_changes_nothing_takes_no_number(cluster, user):
    made = cluster.notify(user, title="Same", data={"a": 1})
    position = user.count()["last_event_id"]
    updated(patch(cluster, id=made["id"], title="Same", data={"a": 1}), 0)
    assert user.count()["last_event_id"] == position


def test_data_that_holds_the_escape_of_nul_is_corrected_like_any_other(cluster, user):
    made = cluster.notify(user, data={"a": "\0", "b\0": [1]})
    updated(patch(cluster, id=made["id"], title="New"), 1)
    assert user.list()["data"][0]["data"] == {"a": "\0", "b\0": [1]}
    updated(patch(cluster, id=made["id"], data={"c": "x\0y"}), 1)
    assert user.list()["data"][0]["data"] == {"c": "x\0y"}


@pytest.mark.parametrize("where", ["body", "query"])
def test_what_is_taken_back_is_gone_from_every_tab(cluster, user, where):
    with user.stream() as stream:
        stream.ready()
        made, kept = cluster.notify(user), cluster.notify(user)
        stream.expect("message"), stream.expect("message")
        if where == "body":
            answer = take_back(cluster, id=made["id"])
        else:
            answer = cluster.http.delete(cluster.url + ROUTE, params={"id": made["id"]}, headers=cluster.application)
        deleted(answer, 1)
        gone = stream.expect("delete")
    assert gone.json == {"id": made["id"], "seq": 3, "unread": 1}
    assert user.ids() == [kept["id"]]
    problem(take_back(cluster, id=made["id"]), 404, "not_found")


def test_a_record_is_corrected_for_all_its_users_and_narrowed_to_some(cluster):
    users = [cluster.fresh_user() for _ in range(6)]
    record = {"rec_type": "task", "rec_id": cluster.unique("/{}:%")}
    cluster.notify(users, **record, customer_id="acme", title="First")
    cluster.notify(users[:2], **record, customer_id="other", title="First")
    cluster.notify(users, rec_type="task", rec_id=cluster.unique(), title="Another")

    def titles(user):
        return sorted(item["title"] for item in user.list()["data"])

    updated(patch(cluster, **record, title="Second", customer_id="other"), 2)
    updated(patch(cluster, **record, title="Third", user_ids=[users[0].name, users[5].name], customer_id="acme"), 2)
    updated(patch(cluster, **record, title="Fourth", user_id=users[1].name), 2)
    assert [titles(user) for user in users] == [
        ["Another", "Second", "Third"], ["Another", "Fourth", "Fourth"], ["Another", "First"], ["Another", "First"], ["Another", "First"],
        ["Another", "Third"],
    ]  # fmt: skip
    query = {**record, "user_id": [users[0].name, users[2].name]}
    deleted(cluster.http.delete(cluster.url + ROUTE, params=query, headers=cluster.application), 3)
    deleted(take_back(cluster, **record), 5)
    assert [titles(user) for user in users] == [["Another"]] * 6


def test_a_collapse_key_finds_everybodys_read_or_not(cluster, user, other):
    key = cluster.unique("💥")
    cluster.notify(user, collapse_key=key)
    user.write("POST", "/read-all")
    cluster.notify([user, other], collapse_key=key)
    updated(patch(cluster, collapse_key=key, title="New"), 3)
    deleted(take_back(cluster, collapse_key=key), 3)
    assert user.ids() == other.ids() == []


def test_scheduled_and_tracked_ones_are_corrected_without_a_number(cluster, user):
    record = {"rec_type": "plan", "rec_id": cluster.unique()}
    scheduled = cluster.notify(user, **record, deliver_at=at(6), title="Old")
    cluster.notify(user, **record, channels=["webhook"], title="Old")
    assert scheduled["seq"] is None
    updated(patch(cluster, **record, title="New"), 2)
    with user.stream() as stream:
        assert stream.ready().seq == 0
        shown = stream.expect("message")
    assert (shown.json["title"], shown.json["id"], shown.seq) == ("New", scheduled["id"], 1)
    deleted(take_back(cluster, **record), 2)


def test_a_scheduled_one_that_is_taken_back_never_comes(cluster, user):
    made = cluster.notify(user, deliver_at=at(1.5))
    deleted(take_back(cluster, id=made["id"]), 1)
    with user.stream() as stream:
        stream.ready()
        cluster.notify(user, deliver_at=at(2.5), title="The other one")
        assert stream.expect("message").json["title"] == "The other one"
    assert len(user.ids()) == 1


def test_thousands_are_corrected_and_taken_back(cluster, user):
    record = {"rec_type": "mass", "rec_id": cluster.unique()}
    names = [cluster.unique(str(number)) for number in range(1499)] + [user.name]
    assert cluster.publish(title="Many", user_ids=names, **record).status_code == 201
    with user.stream() as stream:
        stream.ready()
        updated(patch(cluster, **record, title="More"), 1500)
        assert stream.expect("update").json["title"] == "More"
        deleted(take_back(cluster, **record), 1500)
        stream.expect("delete")
    problem(take_back(cluster, **record), 404, "not_found")


SELECTORS = [
    {}, {"rec_type": "a"}, {"rec_id": "a"}, {"collapse_key": ""}, {"collapse_key": 1}, {"collapse_key": "a", "rec_type": "a", "rec_id": "a"},
    {"collapse_key": "a", "user_ids": []}, {"collapse_key": "a", "user_ids": ["\n"]}, {"collapse_key": "a", "user_id": 7},
    {"collapse_key": "a", "customer_id": ""}, {"collapse_key": "a", "unknown": 1}, {"user_id": "a"},
]  # fmt: skip


@pytest.mark.parametrize("fields", SELECTORS, ids=str)
def test_exactly_one_kind_of_selector(cluster, fields):
    problem(patch(cluster, title="x", **fields), 422, "invalid_body")
    problem(take_back(cluster, **fields), 422, "invalid_body")


CHANGES = [
    {}, {"type": "chat"}, {"event": "message_received"}, {"read": True}, {"title": ""}, {"title": None}, {"level": None}, {"priority": "HIGHEST"},
    {"title": "x" * 201}, {"content": "x" * 4001}, {"link_url": "javascript:alert(1)"}, {"data": []}, {"data": {"x": "y" * 8192}},
    {"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "tomorrow"}, {"rec_type": "x", "title": "x"}, {"channels": ["sms"], "title": "x"},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=lambda value: str(value)[:40])
def test_wrong_changes_change_nothing(cluster, user, changes):
    made = cluster.notify(user)
    before = user.list()
    problem(patch(cluster, id=made["id"], **changes), 422, "invalid_body")
    assert user.list() == before


def test_an_id_must_be_one_and_known(cluster):
    problem(patch(cluster, id="seven", title="x"), 400, "invalid_id")
    problem(patch(cluster, id=str(uuid.uuid4()), title="x"), 404, "not_found")
    problem(take_back(cluster, id="seven"), 400, "invalid_id")
    problem(patch(cluster, rec_type="none", rec_id=cluster.unique(), title="x"), 404, "not_found")


def test_the_selector_of_a_deletion_stands_in_one_place(cluster, user):
    made = cluster.notify(user)
    answer = cluster.http.request(
        "DELETE", cluster.url + ROUTE, params={"id": made["id"]}, json={"id": made["id"]}, headers=cluster.application
    )
    problem(answer, 422, "invalid_body")
    assert user.ids() == [made["id"]]


def test_users_may_not(cluster, user):
    made = cluster.notify(user)
    answer = cluster.http.patch(cluster.url + ROUTE, json={"id": made["id"], "title": "x"}, headers=user.bearer)
    problem(answer, 403, "forbidden")
    problem(cluster.http.delete(cluster.url + ROUTE, params={"id": made["id"]}), 401, "unauthorized")
