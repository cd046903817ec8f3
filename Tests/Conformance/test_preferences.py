"""What users prefer decides by which channels they are told."""

import concurrent.futures

import pytest

from harness import problem

PATH = "/preferences"


def say(user, body, method="PUT", **parameters):
    answer = user.request(method, PATH, json=body, params=parameters)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    return answer.json()


def effective(user, **parameters):
    """Channel to (enabled, reason)."""
    answer = user.get(f"{PATH}/effective", params=parameters)
    return {name: (channel["enabled"], channel["reason"]) for name, channel in answer["channels"].items()}


def deliveries(user, made):
    return {entry["channel"]: (entry["state"], entry["reason"]) for entry in user.get(f"/{made['id']}/deliveries")["data"]}


def test_who_has_said_nothing_prefers_nothing(user):
    assert user.get(PATH) == {}
    assert effective(user) == {
        "in_app": (True, "catalogue"), "email": (False, "catalogue"), "sms": (False, "catalogue"), "telegram": (False, "catalogue"),
    }  # fmt: skip


def test_what_was_put_is_what_is_read(user):
    said = {
        "channels": {"in_app": True, "email": True, "sms": False},
        "types": {"chat": {"channels": {"email": False}, "events": {"message_received": {"sms": True}}}},
        "quiet_hours": {"start": "22:00", "end": "07:00", "timezone": "Europe/Paris"},
        "digest": {"email": "hourly"},
    }
    assert say(user, said) == said
    assert user.get(PATH) == said
    assert say(user, {"channels": {"sms": True}}) == {"channels": {"sms": True}}
    assert user.get(PATH) == {"channels": {"sms": True}}


def test_synonyms(user):
    everything = {"in_app": False, "email": False, "sms": False, "telegram": False}
    assert say(user, {"inApp": False, "email": True, "categories": {"chats": False}}) == {
        "channels": {"in_app": False, "email": True}, "types": {"chat": {"channels": everything}},
    }  # fmt: skip


def test_patch_merges(user):
    say(user, {"channels": {"email": True, "sms": True}, "types": {"chat": {"channels": {"email": False}}, "task": {"channels": {"sms": False}}}})
    patched = say(user, {"channels": {"sms": None, "in_app": False}, "types": {"task": None}}, "PATCH")
    assert patched == {"channels": {"in_app": False, "email": True}, "types": {"chat": {"channels": {"email": False}}}}
    assert say(user, {}, "PATCH") == patched


def test_patches_at_the_same_time_all_count(cluster, user):
    events = {"chat": ["message_received", "mentioned"], "task": ["task_assigned", "task_completed", "task_overdue"]}
    patches = [{"types": {kind: {"events": {event: {"sms": True}}}}} for kind, names in events.items() for event in names]
    bases = [cluster.apis[index % len(cluster.apis)] for index in range(len(patches))]
    with concurrent.futures.ThreadPoolExecutor(len(patches)) as pool:
        answers = list(pool.map(lambda patch, base: user.request("PATCH", PATH, json=patch, base=base), patches, bases))
    assert {answer.status_code for answer in answers} == {200}
    stored = user.get(PATH)["types"]
    assert {kind: sorted(stored[kind]["events"]) for kind in stored} == {kind: sorted(names) for kind, names in events.items()}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "invalid_body"),
        ({"channels": {"email": "yes"}}, "invalid_body"),
        ({"types": {"weather": {}}}, "invalid_group"),
        ({"types": {"chat": {"events": {"rain": {}}}}}, "invalid_event"),
        ({"channels": {"pigeon": True}}, "invalid_channel"),
        ({"pigeon": True}, "invalid_channel"),
        ({"quiet_hours": {"start": "22:00", "end": "07:00", "timezone": "Mars/Base"}}, "invalid_body"),
        ({"quiet_hours": {"start": "25:00", "end": "07:00"}}, "invalid_body"),
        ({"quiet_hours": {"start": "22:00"}}, "invalid_body"),
        ({"digest": {"email": "yearly"}}, "invalid_body"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_what_is_wrong_changes_nothing(user, method, body, code):
    say(user, {"email": True})
    error = problem(user.request(method, PATH, json=body), 422, code)
    assert error["errors"]
    assert user.get(PATH) == {"channels": {"email": True}}


def test_not_json(user):
    problem(user.request("PUT", PATH, content=b"{"), 400, "invalid_body")


def test_first_word_found_wins(user):
    kind, event = "chat", "message_received"
    steps = [
        ({"sms": True}, None, "channel"),
        ({"sms": False}, "acme", "customer_channel"),
        ({"types": {kind: {"channels": {"sms": True}}}}, None, "type"),
        ({"types": {kind: {"channels": {"sms": False}}}}, "acme", "customer_type"),
        ({"types": {kind: {"events": {event: {"sms": True}}}}}, None, "event"),
        ({"types": {kind: {"events": {event: {"sms": False}}}}}, "acme", "customer_event"),
    ]
    for patch, customer, reason in steps:
        say(user, patch, "PATCH", **({"customer_id": customer} if customer else {}))
        enabled = customer is None
        assert effective(user, type=kind, event=event, customer_id="acme")["sms"] == (enabled, reason)
    # What was said for one customer is not said for another.
    assert effective(user, type=kind, event=event, customer_id="other")["sms"] == (True, "event")
    assert effective(user, type="chats", event=event)["sms"] == (True, "event")
    assert effective(user, type="task")["sms"] == (True, "channel")


def test_effective_names_what_it_was_asked(user):
    answer = user.get(f"{PATH}/effective", params={"type": "chats", "event": "mentioned", "customer_id": "acme"})
    assert (answer["type"], answer["event"], answer["customer_id"], answer["quiet_until"]) == ("chat", "mentioned", "acme", None)
    problem(user.request("GET", f"{PATH}/effective", params={"type": "weather"}), 422, "invalid_group")
    problem(user.request("GET", f"{PATH}/effective", params={"type": "chat", "event": "rain"}), 422, "invalid_event")


def test_in_app_turned_off_for_a_type(cluster):
    off, on = cluster.fresh_user(), cluster.fresh_user()
    say(off, {"categories": {"chat": {"in_app": False}}})
    for base in cluster.apis:
        answer = cluster.publish(url=base, title="Hi", type="chat", user_ids=[off.name, on.name]).json()
        assert [entry["user_id"] for entry in answer["notifications"]] == [on.name]
        assert answer["skipped"] == [{"user_id": off.name, "reason": "preference"}]
    assert off.ids() == [] and off.count()["unread"] == 0
    assert cluster.notify(off, type="task")["seq"] == 1
    assert len(on.ids()) == 2


def test_a_preference_holds_for_the_next_notification_on_any_node(cluster, user):
    for index in range(6):
        wanted = index % 2 == 1
        say(user, {"in_app": wanted})
        answer = cluster.publish(url=cluster.apis[index % len(cluster.apis)], title="Hi", user_ids=[user.name]).json()
        assert bool(answer["notifications"]) == wanted


def test_for_one_customer_only(cluster, user):
    say(user, {"in_app": False}, customer_id="acme")
    assert cluster.publish(title="Hi", user_ids=[user.name], customer_id="acme").json()["skipped"] == [{"user_id": user.name, "reason": "preference"}]
    assert cluster.notify(user, customer_id="other")["seq"] == 1
    assert cluster.notify(user)["seq"] == 2


def test_a_tokens_customers(cluster, user):
    scoped = cluster.user(user.name, "--customer", "acme")
    assert say(scoped, {"email": True}, customer_id="acme") == {"channels": {"email": True}}
    problem(scoped.request("GET", PATH, params={"customer_id": "other"}), 403, "forbidden")
    problem(scoped.request("PUT", PATH, params={"customer_id": "other"}, json={}), 403, "forbidden")
    assert user.get(PATH, params={"customer_id": "acme"}) == {"channels": {"email": True}}
    assert user.get(PATH) == {}


def test_reasons_for_being_left_out(cluster, user):
    def left_out(**fields):
        answer = cluster.publish(title="Hi", user_ids=[user.name], **fields)
        assert answer.status_code == 201
        assert answer.json()["notifications"] == []
        return answer.json()["skipped"][0]["reason"]

    assert left_out(channels=["telegram"]) == "no_contact"
    say(user, {"telegram": False})
    assert left_out(channels=["telegram"]) == "preference"
    assert left_out(channels=["telegram", "sms"]) == "preference"
    assert user.count()["unread"] == 0


def test_what_became_of_a_notification_in_each_channel(cluster, user):
    assert deliveries(user, cluster.notify(user)) == {"in_app": ("delivered", None)}
    say(user, {"telegram": False})
    made = cluster.notify(user, channels=["in_app", "telegram", "sms"])
    assert deliveries(user, made) == {"in_app": ("delivered", None), "telegram": ("suppressed", "preference"), "sms": ("suppressed", "no_contact")}
    problem(cluster.fresh_user().request("GET", f"/{made['id']}/deliveries"), 404, "not_found")
    problem(user.request("GET", "/none/deliveries"), 400, "invalid_id")
    later = cluster.notify(user, deliver_at="2999-01-01T00:00:00Z")
    assert deliveries(user, later) == {"in_app": ("queued", None)}


def test_a_direct_event_goes_to_those_who_want_it(cluster):
    off, on = cluster.fresh_user(), cluster.fresh_user()
    say(off, {"categories": {"chat": False}})
    with off.stream() as silent, on.stream() as stream:
        silent.ready()
        stream.ready()

        def send(**fields):
            answer = cluster.http.post(f"{cluster.url}/v1/notifications/sse", json=fields, headers=cluster.application)
            assert answer.status_code == 200, answer.text

        send(type="chat", title="for one of them", user_ids=[off.name, on.name])
        assert stream.expect("message").json["title"] == "for one of them"
        send(type="task", title="for both", user_ids=[off.name, on.name])
        assert stream.expect("message").json["title"] == "for both"
        assert silent.expect("message").json["title"] == "for both"
        # A broadcast asks nobody.
        send(type="chat", title="for all", broadcast=True)
        assert silent.until("the broadcast", lambda block: block.data and block.json.get("title") == "for all")


def test_not_without_a_user(cluster):
    for method in ("GET", "PUT", "PATCH"):
        answer = cluster.http.request(method, f"{cluster.url}/v1/notifications{PATH}", json={})
        problem(answer, 401, "invalid_user_id")
        answer = cluster.http.request(method, f"{cluster.url}/v1/notifications{PATH}", json={}, headers=cluster.application)
        problem(answer, 403, "forbidden")


def test_all_prefixes_lead_there(cluster, user):
    say(user, {"email": True})
    for prefix in ("/v1", "/api/v1", "/api"):
        answer = cluster.http.get(f"{cluster.url}{prefix}/notifications{PATH}", headers=user.bearer)
        assert answer.json() == {"channels": {"email": True}}
        tag = {"If-None-Match": answer.headers["etag"]}
        assert cluster.http.get(f"{cluster.url}{prefix}/notifications{PATH}", headers=user.bearer | tag).status_code == 304
