"""POST /v1/notifications/trigger and its jobs, and notify for more users than fit one transaction: everybody once, or nobody."""

import json
import socket
import threading
import urllib.parse
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from harness import eventually, problem

ROUTE = "/v1/notifications/trigger"
MESSAGE = "Notification sent to all connected users"


def trigger(cluster, /, *, headers=None, **fields):
    return cluster.http.post(cluster.url + ROUTE, json={"title": "Hello", **fields}, headers={**cluster.application, **(headers or {})})


def trigger_lines(cluster, content, headers=None, url=None):
    return cluster.http.post(
        (url or cluster.url) + ROUTE, content=content,
        headers={**cluster.application, "Content-Type": "application/x-ndjson; charset=utf-8", **(headers or {})}
    )  # fmt: skip


def lines(users, **fields):
    return b"".join(json.dumps(line).encode() + b"\n" for line in ({"title": "Hello", **fields}, *users))


def accepted(answer):
    assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
    assert answer.json() == {"message": MESSAGE, "job_id": answer.json()["job_id"]}
    return answer.json()["job_id"]


def status(cluster, job):
    answer = cluster.http.get(f"{cluster.url}/v1/jobs/{job}", headers=cluster.application)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["state", "total", "done", "skipped", "failed"]
    assert answer.json()["state"] in ("queued", "running", "done", "failed")
    return answer.json()


def done(cluster, job, total, timeout=60):
    eventually("the job is done", lambda: status(cluster, job)["state"] == "done", timeout=timeout)
    assert status(cluster, job) == {"state": "done", "total": total, "done": total, "skipped": 0, "failed": 0}


def test_a_trigger_reaches_the_stream(cluster, user):
    with user.stream() as stream:
        stream.ready()
        job = accepted(trigger(cluster, user_id=user.name, type="chat", event="message_received", data={"a": 1}))
        shown = stream.expect("message")
    assert shown.seq == 1 and (shown.json["title"], shown.json["type"], shown.json["data"]) == ("Hello", "chat", {"a": 1})
    done(cluster, job, 1)


def test_a_small_and_a_large_job_reach_everybody_once(cluster):
    users = [cluster.fresh_user() for _ in range(30)]
    others = [cluster.unique(f"-{number}") for number in range(1200)]
    names = [user.name for user in users]
    small = accepted(trigger(cluster, user_ids=names + names[:5]))
    large = accepted(trigger(cluster, user_ids=names[:15] + others + names + others[:7], title="Large"))
    done(cluster, small, 30)
    done(cluster, large, 1230)
    for user in users:
        assert sorted(item["title"] for item in user.list()["data"]) == ["Hello", "Large"]


def test_lines_reach_everybody_once(cluster):
    users = [cluster.fresh_user() for _ in range(10)]
    names = [user.name for user in users]
    others = [cluster.unique(f"-{{}}/%:🧭-{number}") for number in range(500)]
    job = accepted(trigger_lines(cluster, lines([*names, *others, *names], data={"n": 1.50})))
    done(cluster, job, 510)
    for user in users:
        [item] = user.list()["data"]
        assert item["data"] == {"n": 1.5}


def test_bare_lines_empty_lines_and_carriage_returns(cluster):
    users = [cluster.fresh_user() for _ in range(4)]
    bare = cluster.unique(' "quoted" inside é')
    number = str(uuid.uuid4().int)
    text = "\r\n".join(
        ['{"title":"Hello"}', users[0].name, "", json.dumps(users[1].name), users[2].name, json.dumps(users[2].name), bare, number, users[3].name])
    job = accepted(trigger_lines(cluster, text.encode()))
    done(cluster, job, 6)
    assert [len(user.ids()) for user in users] == [1] * 4
    for name in (bare, number):
        path = urllib.parse.quote(name, safe="")
        assert cluster.http.get(f"{cluster.url}/v1/internal/users/{path}/count", headers=cluster.application).json()["unread"] == 1


def untouched(cluster, user):
    """What came before the fault has had its time to be carried out: a later job of the same worker is done."""
    other = cluster.fresh_user()
    done(cluster, accepted(trigger(cluster, user_id=other.name)), 1)
    assert user.ids() == []


WRONG_LINES = [
    (b'{"title":"x"}\n"USER"\n"unfinished\n', 422, "line 3"), (b'{"title":"x"}\n"USER"\n{"user_id":"a"}\n', 422, "line 3"),
    (b'{"title":"x"}\n"USER"\n["a"]\n', 422, "line 3"), (b'{"title":"x"}\n"USER"\nnull\n', 422, "line 3"), (b'{"title":"x"}\n"USER"\n""\n', 422, "line 3"),
    (b'{"title":"x"}\n"USER"\n"a" \n" b"\n"c\\u0007"', 422, "line 5"), (b'{"title":"x"}\n"USER"\n' + b"x" * 129, 422, "line 3"),
    (b'{"title":"x"}\n"USER"\n\xff\xfe\n', 422, "line 3"), (b'{"title":"x"}\n"USER"\n lead\n', 422, "line 3"),
    (b'{"title":"x"}\n"USER"\n"' + b"x" * 4000 + b'"\n', 413, "line 3"), (b'{"title":"x","content":"' + b"x" * 200_000, 413, "line 1"),
    (b'{"title":"x"}\n', 422, ""), (b'{"title":"x"}', 422, ""), (b"", 400, ""), (b'nonsense\n"USER"\n', 400, "line 1"),
    (b'{"content":"x"}\n"USER"\n', 422, "line 1"), (b'{"title":"x","user_ids":["USER"]}\n"USER"\n', 422, "line 1"), (b'["x"]\n"USER"\n', 422, "line 1"),
    (b'{"title":"x","type":"NONE"}\n"USER"\n', 422, "line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "line"), WRONG_LINES, ids=lambda value: repr(value)[:50])
def test_a_wrong_line_leaves_nothing_and_is_named(cluster, user, text, code, line):
    answer = trigger_lines(cluster, text.replace(b"USER", user.name.encode()))
    name = {400: "invalid_body", 413: "too_large", 422: "invalid_group" if b"NONE" in text else "invalid_body"}[code]
    assert line in problem(answer, code, name)["detail"].lower()
    untouched(cluster, user)


def test_a_wrong_line_after_ten_thousand_good_ones_leaves_nothing(cluster, user):
    names = [cluster.unique(f"-{number}") for number in range(10_000)]
    answer = trigger_lines(cluster, lines([user.name, *names]) + b"{}\n")
    assert "line 10003" in problem(answer, 422, "invalid_body")["detail"].lower()
    untouched(cluster, user)


def connect(url, extra):
    parts = urllib.parse.urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=30)
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-ndjson\r\n{extra}\r\n"
    connection.sendall(head.encode())
    return connection


def test_a_broken_connection_leaves_nothing(cluster, user):
    authorization = f"Authorization: Bearer {cluster.api_key}\r\n"
    names = [cluster.unique(f"-{number}") for number in range(5_000)]
    body = lines([user.name, *names])
    connection = connect(cluster.apis[0], f"{authorization}Content-Length: {len(body) + 10}\r\n")
    connection.sendall(body)
    connection.close()
    connection = connect(cluster.apis[0], f"{authorization}Transfer-Encoding: chunked\r\n")
    connection.sendall(b"%x\r\n" % len(body) + body + b"\r\n")
    connection.close()
    untouched(cluster, user)


def test_a_slow_upload_is_taken_as_it_comes(cluster, user):
    body = lines([user.name, *(cluster.unique(f"-{number}") for number in range(40))])
    connection = connect(cluster.apis[0], f"X-API-Key: {cluster.api_key}\r\nConnection: close\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n")
    answer = connection.makefile("rb")
    assert answer.readline() == b"HTTP/1.1 100 Continue\r\n" and answer.readline() == b"\r\n"
    pause = threading.Event()
    for place in range(0, len(body), 97):
        connection.sendall(body[place : place + 97])
        pause.wait(0.02)
    text = answer.read().decode()
    assert text.startswith("HTTP/1.1 202 ")
    done(cluster, json.loads(text.partition("\r\n\r\n")[2])["job_id"], 41)
    assert len(user.ids()) == 1


def test_a_refused_upload_is_answered_before_its_end(cluster):
    connection = connect(cluster.apis[0], "Content-Length: 100000000\r\n")
    connection.sendall(b'{"title":"x"}\n')
    text = connection.makefile("rb").read().decode()
    assert text.startswith("HTTP/1.1 401 ") and "connection: close" in text.lower()


def test_the_same_connection_goes_on_after_an_upload(cluster):
    users = [cluster.fresh_user() for _ in range(3)]
    with_keepalive = __import__("httpx").Client(trust_env=False, timeout=30)
    with with_keepalive as client:
        for user in users:
            answer = client.post(
                cluster.apis[0] + ROUTE, content=lines([user.name]), headers={**cluster.application, "Content-Type": "application/x-ndjson"}
            )
            done(cluster, accepted(answer), 1)
    assert [len(user.ids()) for user in users] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["json", "lines"])
def test_an_idempotency_key_starts_one_job(cluster, user, kind):
    key = {"Idempotency-Key": cluster.unique()}

    def send(title):
        if kind == "json":
            return trigger(cluster, user_id=user.name, title=title, headers=key)
        return trigger_lines(cluster, lines([user.name], title=title), headers=key)

    first = send("First")
    job = accepted(first)
    assert "idempotent-replayed" not in first.headers
    again = send("First")
    assert accepted(again) == job and again.headers["idempotent-replayed"] == "true"
    problem(send("Another"), 422, "invalid_body")
    done(cluster, job, 1)
    assert len(user.ids()) == 1


@pytest.mark.parametrize("kind", ["json", "lines"])
def test_a_request_that_has_become_wrong_is_answered_as_it_was(cluster, user, kind):
    key = {"Idempotency-Key": cluster.unique()}
    until = datetime.now(timezone.utc) + timedelta(seconds=6)
    fields = {"expires_at": until.isoformat()}

    def send(key):
        if kind == "json":
            return trigger(cluster, user_id=user.name, headers=key, **fields)
        return trigger_lines(cluster, lines([user.name], **fields), headers=key)

    job = accepted(send(key))
    eventually("that time is over", lambda: datetime.now(timezone.utc) > until)
    again = send(key)
    assert accepted(again) == job and again.headers["idempotent-replayed"] == "true"
    problem(send({"Idempotency-Key": cluster.unique()}), 422, "invalid_body")
    fields["title"] = "Another"
    problem(send(key), 422, "invalid_body")


def test_a_large_notify_answers_when_all_of_it_is_committed(cluster, user):
    names = [cluster.unique(f"-{number}") for number in range(1500)]
    names[700] = user.name
    key = {"Idempotency-Key": cluster.unique()}
    request = json.dumps({"title": "Many", "user_ids": names + names[:3]}).encode()
    answer = cluster.publish(request, headers={**cluster.application, **key})
    assert answer.status_code == 201, answer.text
    made = answer.json()["notifications"]
    assert [item["user_id"] for item in made] == names and answer.json()["skipped"] == []
    assert [item["seq"] for item in made] == [1] * 1500 and len({item["id"] for item in made}) == 1500
    assert user.ids() == [made[700]["id"]]
    again = cluster.publish(request, headers={**cluster.application, **key})
    assert again.status_code == 201 and again.headers["idempotent-replayed"] == "true" and again.json() == answer.json()
    problem(cluster.publish(request.replace(b"Many", b"More"), headers={**cluster.application, **key}), 422, "invalid_body")
    assert user.ids() == [made[700]["id"]]


def test_a_scheduled_large_notify_has_no_numbers_yet(cluster):
    names = [cluster.unique(f"-{number}") for number in range(600)]
    answer = cluster.publish(title="Later", user_ids=names, deliver_at="2099-01-01T00:00:00Z")
    assert answer.status_code == 201 and {item["seq"] for item in answer.json()["notifications"]} == {None}


@pytest.mark.parametrize("fields", [{"title": None}, {"user_ids": []}, {"user_ids": [f"u{n}" for n in range(10_001)]}, {"type": 1}], ids=lambda f: str(f)[:30])
def test_a_wrong_trigger_is_refused(cluster, fields):
    problem(trigger(cluster, **{"user_ids": ["a"], **fields}), 422, "invalid_body")


def test_jobs_are_the_applications(cluster, user):
    job = accepted(trigger(cluster, user_id=user.name))
    problem(cluster.http.get(f"{cluster.url}/v1/jobs/{job}", headers=user.bearer), 403, "forbidden")
    problem(cluster.http.get(f"{cluster.url}/v1/jobs/{job}"), 401, "unauthorized")
    problem(cluster.http.get(f"{cluster.url}/v1/jobs/{uuid.uuid4()}", headers=cluster.application), 404, "not_found")
    problem(cluster.http.get(f"{cluster.url}/v1/jobs/seven", headers=cluster.application), 400, "invalid_id")
    problem(cluster.http.post(cluster.url + ROUTE, json={"title": "x", "user_id": user.name}, headers=user.bearer), 403, "forbidden")
    problem(cluster.http.post(cluster.url + ROUTE, content=lines([user.name]), headers={**user.bearer, "Content-Type": "application/x-ndjson"}), 403, "forbidden")
    done(cluster, job, 1)


def test_a_hundred_thousand_lines(cluster):
    prefix = cluster.unique()
    users = [cluster.fresh_user() for _ in range(2)]

    def content():
        yield b'{"title":"Mass"}\n'
        yield json.dumps(users[0].name).encode() + b"\n"
        for start in range(0, 100_000, 1000):
            yield "".join(f'"{prefix}-{number}"\n' for number in range(start, start + 1000)).encode()
        yield json.dumps(users[1].name).encode()

    job = accepted(trigger_lines(cluster, content()))
    assert status(cluster, job)["total"] == 100_002
    answer = cluster.http.post(cluster.url + "/v1/internal/notify", json={"title": "Meanwhile", "user_id": users[0].name}, headers=cluster.application)
    assert answer.status_code == 201
    done(cluster, job, 100_002, timeout=240)
    assert [sorted(item["title"] for item in user.list()["data"]) for user in users] == [["Mass", "Meanwhile"], ["Mass"]]
