"""The stream, read by other people's clients."""

import json
import os
import subprocess
import uuid

import httpx
import httpx_sse
import pytest
import requests
import sseclient

URL = os.environ["CARILLON_URL"]
KEY = {"Authorization": "Bearer " + os.environ["CARILLON_API_KEY"]}


@pytest.fixture
def user():
    return "reader-" + uuid.uuid4().hex


def token(user):
    command = [os.environ["CARILLON_LOCAL"], "token", user, "--state", os.environ["CARILLON_LOCAL_STATE"]]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def notify(user, title):
    answer = requests.post(URL + "/v1/internal/notify", headers=KEY, json={"title": title, "user_id": user}, timeout=10)
    assert answer.status_code == 201, answer.text
    return answer.json()["notifications"][0]


def test_httpx_sse_reads_and_resumes(user):
    headers = {"Authorization": "Bearer " + token(user)}
    with httpx.Client(timeout=httpx.Timeout(15)) as client:
        with httpx_sse.connect_sse(client, "GET", URL + "/v1/notifications/sse", headers=headers) as source:
            events = source.iter_sse()
            ready = next(events)
            assert ready.event == "ready" and 500 <= ready.retry <= 2500
            sent = notify(user, "first")
            event = next(events)
            assert event.event == "message" and event.id == ready.id.split("-")[0] + "-1"
            assert json.loads(event.data)["id"] == sent["id"]
        missed = [notify(user, f"missed {number}")["id"] for number in range(3)]
        with httpx_sse.connect_sse(
            client, "GET", URL + "/v1/notifications/sse", headers=headers | {"Last-Event-ID": event.id}
        ) as source:
            events = source.iter_sse()
            assert next(events).id == event.id
            assert [json.loads(next(events).data)["id"] for _ in missed] == missed


def test_sseclient_py_reads_and_resumes(user):
    headers = {"Authorization": "Bearer " + token(user), "Accept": "text/event-stream"}
    with requests.get(URL + "/v1/notifications/stream", headers=headers, stream=True, timeout=15) as answer:
        events = sseclient.SSEClient(answer.iter_content(chunk_size=1)).events()
        assert next(events).event == "ready"
        sent = notify(user, "für Zoë 🔔\nzweite Zeile")
        event = next(events)
        data = json.loads(event.data)
        assert data["id"] == sent["id"] and data["title"] == "für Zoë 🔔zweite Zeile" and data["unread"] == 1
    later = notify(user, "later")
    with requests.get(
        URL + "/v1/notifications/stream", headers=headers | {"Last-Event-ID": event.id}, stream=True, timeout=15
    ) as answer:
        events = sseclient.SSEClient(answer.iter_content(chunk_size=1)).events()
        assert next(events).event == "ready"
        assert json.loads(next(events).data)["id"] == later["id"]
