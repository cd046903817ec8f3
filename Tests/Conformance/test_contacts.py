"""Where users are reached, as the application says it."""

import urllib.parse

import pytest

from harness import problem

WHOLE = {"email": "ada@example.com", "phone": "+33612345678", "locale": "fr-CA", "timezone": "Europe/Paris", "telegram_chat_id": "-1001234567890"}


@pytest.fixture
def contact(cluster):
    def request(method, user, body=None, headers=None):
        url = f"{cluster.url}/v1/contacts/{urllib.parse.quote(user, safe='')}"
        options = {} if body is None else {"json": body}
        return cluster.http.request(method, url, headers=cluster.application if headers is None else headers, **options)

    return request


@pytest.mark.parametrize("suffix", ["", "/{}%:", " é e\u0301 \U0001f6a2", "?&=#+", "..", "%2F"])
def test_any_user(cluster, contact, suffix):
    user = cluster.unique(suffix)
    problem(contact("GET", user), 404, "not_found")
    put = contact("PUT", user, WHOLE)
    assert put.status_code == 200, put.text
    assert {name: put.json()[name] for name in WHOLE} == WHOLE
    assert put.json()["user_id"] == user
    assert contact("GET", user).json() == put.json()
    assert contact("DELETE", user).status_code == 204
    problem(contact("DELETE", user), 404, "not_found")
    problem(contact("GET", user), 404, "not_found")


def test_put_replaces_all_of_it(cluster, contact):
    user = cluster.unique()
    contact("PUT", user, WHOLE)
    less = contact("PUT", user, {"phone": "+4930123456"}).json()
    assert {name: less[name] for name in WHOLE} == dict.fromkeys(WHOLE) | {"phone": "+4930123456"}
    # What was read may be sent back.
    assert contact("PUT", user, contact("GET", user).json()).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", "nobody"), ("email", "a@b@c"), ("email", "a@b.c\nBcc: d@e.f"), ("email", 1), ("phone", "0612345678"), ("phone", "+33 6"), ("phone", "+1234567890123456"),
        ("locale", "français"), ("locale", "en_US"), ("timezone", "Paris"), ("timezone", "+02:00"), ("telegram_chat_id", "x"), ("fax", "+123456"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(cluster, contact, name, value):
    user = cluster.unique()
    contact("PUT", user, WHOLE)
    error = problem(contact("PUT", user, WHOLE | {name: value}), 422, "invalid_body")
    assert [entry["pointer"] for entry in error["errors"]] == [f"/{name}"]
    assert contact("GET", user).json()["email"] == WHOLE["email"]


def test_not_json_and_no_user(cluster, contact):
    url = f"{cluster.url}/v1/contacts/{cluster.unique()}"
    problem(cluster.http.put(url, content=b"{", headers=cluster.application), 400, "invalid_body")
    problem(contact("GET", "x" * 129), 422, "invalid_body")
    problem(contact("GET", "a\nb"), 422, "invalid_body")


def test_who_may(cluster, contact, user):
    for method, body in (("GET", None), ("PUT", WHOLE), ("DELETE", None)):
        problem(contact(method, user.name, body, headers={}), 401, "unauthorized")
        problem(contact(method, user.name, body, headers={"X-API-Key": "ck_guess"}), 401, "unauthorized")
        problem(contact(method, user.name, body, headers=user.bearer), 403, "forbidden")
    assert contact("GET", user.name).status_code == 404


def test_a_contact_is_what_a_channel_needs(cluster, contact, user):
    def reason():
        answer = cluster.publish(title="Hi", user_ids=[user.name], channels=["telegram"]).json()
        return answer["skipped"][0]["reason"]

    assert reason() == "no_contact"
    contact("PUT", user.name, {"telegram_chat_id": "42"})
    # The cluster of the tests has no bot.
    assert reason() == "not_configured"
    contact("DELETE", user.name)
    assert reason() == "no_contact"


def test_quiet_hours_by_the_clocks_of_the_contact(contact, user):
    """Somewhere it is night: of two places on opposite sides of the earth one is within twelve hours of quiet, the other is not."""
    assert user.request("PUT", "/preferences", json={"quiet_hours": {"start": "06:00", "end": "18:00"}}).status_code == 200
    quiet = []
    for zone in ("Etc/GMT-6", "Etc/GMT+6"):
        contact("PUT", user.name, {"timezone": zone})
        quiet.append(user.get("/preferences/effective")["quiet_until"] is not None)
    assert sorted(quiet) == [False, True]


def test_a_template_speaks_the_language_of_its_reader(cluster, contact):
    readers = {locale: cluster.user(cluster.unique()) for locale in ("fr-CA", "de", "pt-BR", None)}
    for locale, reader in readers.items():
        if locale:
            contact("PUT", reader.name, {"locale": locale})
    sent = {"type": "chat", "event": "message_received", "user_ids": [reader.name for reader in readers.values()]}
    answer = cluster.publish(**sent)
    assert answer.status_code == 201, answer.text
    titles = {locale: reader.get("")["data"][0]["title"] for locale, reader in readers.items()}
    assert titles == {"fr-CA": "Nouveau message", "de": "Neue Nachricht", "pt-BR": "New message", None: "New message"}
    # What the application says itself is in its own words.
    assert cluster.publish(**sent, title="Ahoy").status_code == 201
    assert {reader.get("?order=newest")["data"][0]["title"] for reader in readers.values()} == {"Ahoy"}
