"""E-mails, which this cluster writes into files: what is sent, when, and what is said about it."""

import json
import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from harness import eventually

MAIL = Path(os.environ["CARILLON_LOCAL_STATE"]) / "mail"


def mails(address):
    """To that address, in the order in which they were queued."""
    found = []
    for path in sorted(MAIL.glob("*.json")):
        message = json.loads(path.read_text())
        if message["to"] == address:
            found.append(message)
    return found


@pytest.fixture
def reader(cluster, user):
    def contact(**more):
        answer = cluster.http.put(f"{cluster.url}/v1/contacts/{user.name}", json={"email": f"{user.name}@example.org", **more}, headers=cluster.application)
        assert answer.status_code == 200, answer.text

    contact()
    user.address = f"{user.name}@example.org"
    user.contact = contact
    return user


def states(user, identifier):
    return {item["channel"]: (item["state"], item["reason"]) for item in user.get(f"/{identifier}/deliveries")["data"]}


def sent(user, identifier, state="sent"):
    eventually(f"an e-mail that is {state}", lambda: states(user, identifier)["email"][0] == state)


def test_an_email_is_sent_from_the_templates_in_the_language_of_its_reader(cluster, reader):
    reader.contact(locale="fr-CA")
    identifier = cluster.notify(
        reader, title=None, type="BOOKING_CREATED", event="booking_created", channels=["in_app", "email"], priority="URGENT",
        template_data={"reference": "B<7>", "items": [{"quantity": 2, "name": "Box"}]})["id"]
    sent(reader, identifier)
    message = mails(reader.address)[0]
    assert message["subject"] == "Votre réservation B<7>"
    assert message["html"].startswith("<h1>Réservation B&lt;7&gt; créée</h1>") and "2 × Box" in message["text"]
    assert message["notification_id"] == identifier and message["user_id"] == reader.name and message["urgent"] is True
    assert states(reader, identifier) == {"in_app": ("delivered", None), "email": ("sent", None)}


def test_without_templates_it_says_what_the_notification_says(cluster, reader):
    identifier = cluster.notify(reader, title="Hello", content="Line one\nline two", link_url="https://example.org/x", link_text="Look", channels=["email"])["id"]
    eventually("an e-mail", lambda: mails(reader.address))
    message = mails(reader.address)[0]
    assert (message["subject"], message["text"]) == ("Hello", "Line one\nline two\n\nLook: https://example.org/x") and "html" not in message
    rows = cluster.http.get(f"{cluster.url}/v1/admin/deliveries", params={"user_id": reader.name}, headers=cluster.application).json()["data"]
    assert [(row["notification_id"], row["endpoint"]) for row in rows] == [(identifier, reader.address)]


def test_many_are_sent_once_each_by_whichever_worker(cluster, reader):
    for number in range(50):
        cluster.notify(reader, title=f"Number {number}", channels=["in_app", "email"], customer_id=f"c{number % 7}")
    eventually("fifty e-mails", lambda: len(mails(reader.address)) >= 50)
    assert {message["subject"] for message in mails(reader.address)} == {f"Number {number}" for number in range(50)}
    assert len(mails(reader.address)) == 50


def test_quiet_hours_hold_it_back_but_not_what_is_urgent(cluster, reader):
    # A day of which all but the minute that ended just now is quiet.
    gone = datetime.now(timezone.utc) - timedelta(minutes=2)
    quiet = {"start": f"{gone:%H:%M}", "end": f"{gone - timedelta(minutes=1):%H:%M}", "timezone": "UTC"}
    assert reader.request("PUT", "/preferences", json={"quiet_hours": quiet}).status_code == 200
    held = cluster.notify(reader, title="Later", channels=["in_app", "email"])["id"]
    urgent = cluster.notify(reader, title="Now", channels=["in_app", "email"], priority="URGENT")["id"]
    sent(reader, urgent)
    assert states(reader, held)["email"] == ("queued", None)
    delivery = next(item for item in reader.get(f"/{held}/deliveries")["data"] if item["channel"] == "email")
    assert datetime.fromisoformat(delivery["not_before"]) > datetime.now(timezone.utc) + timedelta(hours=23)
    assert [message["subject"] for message in mails(reader.address)] == ["Now"]


def test_what_was_deleted_or_taken_back_meanwhile_is_not_sent(cluster, reader):
    due = (datetime.now(timezone.utc) + timedelta(seconds=6)).isoformat()
    gone = cluster.notify(reader, title="Gone", channels=["email"], deliver_at=due)["id"]
    stays = cluster.notify(reader, title="Stays", channels=["email"], deliver_at=due)["id"]
    answer = cluster.http.request("DELETE", f"{cluster.url}/v1/internal/notifications", json={"id": gone}, headers=cluster.application)
    assert answer.json() == {"deleted": 1}, answer.text

    def found():
        rows = cluster.http.get(f"{cluster.url}/v1/admin/deliveries", params={"user_id": reader.name}, headers=cluster.application).json()["data"]
        return {row["notification_id"]: (row["state"], row["reason"]) for row in rows}

    eventually("both to be over", lambda: found() == {gone: ("suppressed", "gone"), stays: ("sent", None)})
    assert [message["subject"] for message in mails(reader.address)] == ["Stays"]


def test_a_dead_letter_can_be_begun_anew_or_given_up(cluster, reader):
    """Of this cluster's channels none fails by itself: two letters that wait are made dead by hand."""
    later = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
    made = [cluster.notify(reader, title=f"Dead {number}", channels=["email"], deliver_at=later)["id"] for number in range(2)]
    statements = (
        f"UPDATE tasks SET state = 3, run_at = now(), attempts = 12, last_error = 'no answer' WHERE user_id = '{reader.name}';"
        f"UPDATE deliveries SET state = 'dead', reason = 'no answer' WHERE user_id = '{reader.name}'")
    subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", cluster.database_url, "-c", statements], check=True, capture_output=True)

    def letters():
        answer = cluster.http.get(f"{cluster.url}/v1/admin/dead-letters", params={"queue": "email", "limit": 200}, headers=cluster.application)
        return {letter["notification_id"]: letter for letter in answer.json()["data"] if letter["user_id"] == reader.name}

    assert set(letters()) == set(made)
    first, second = (letters()[identifier] for identifier in made)
    assert (first["queue"], first["endpoint"], first["attempts"], first["error"]) == ("email", reader.address, 12, "no answer")

    def act(method, letter, end=""):
        return cluster.http.request(method, f"{cluster.url}/v1/admin/dead-letters/{letter['id']}{end}", headers=cluster.application)

    assert act("POST", first, "/retry").json() == {"id": first["id"], "queue": "email", "state": "queued"}
    assert act("POST", first, "/retry").status_code == 404
    eventually("the e-mail", lambda: [message["subject"] for message in mails(reader.address)] == ["Dead 0"])
    assert act("DELETE", second).status_code == 204
    assert act("DELETE", second).status_code == 404
    assert letters() == {}
    assert len(mails(reader.address)) == 1
