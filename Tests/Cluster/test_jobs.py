"""Notifications for many users, while what carries them out dies: everybody gets one, or nobody."""

import concurrent.futures
import contextlib
import json
import socket
import subprocess
import threading
import uuid

import pytest
import requests

from carillon import PATIENCE, bearer
from servers import World, until

ROUTE = "/v1/notifications/trigger"


@pytest.fixture(scope="module")
def world():
    with World(apis=2, edges=1, workers=2) as world:
        yield world


@pytest.fixture(autouse=True)
def whole(world):
    yield
    for node in world.nodes:
        if not node.is_running:
            node.start()
    world.wait_until_whole()


def names(count):
    prefix = f"job-{uuid.uuid4().hex[:12]}-"
    return prefix, [f"{prefix}{number}" for number in range(count)]


def status(world, job, api=1):
    answer = requests.get(f"{world.apis[api].url}/v1/jobs/{job}", headers=bearer(world.key), timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def trigger(world, users, api=0, headers=None):
    body = b"".join(json.dumps(line).encode() + b"\n" for line in ({"title": "Mass"}, *users))
    answer = requests.post(
        world.apis[api].url + ROUTE, data=body, headers=bearer(world.key) | {"Content-Type": "application/x-ndjson"} | (headers or {}), timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def written(world, prefix):
    """Of the users with that prefix: notifications, different users, the highest number, and rows of the change log."""
    counts = world.postgres.sql(
        f"SELECT count(*), count(DISTINCT user_id), COALESCE(max(seq), 0) FROM notifications WHERE user_id LIKE '{prefix}%'"
        f" UNION ALL SELECT count(*), count(DISTINCT user_id), COALESCE(max(seq), 0) FROM changes WHERE user_id LIKE '{prefix}%'", "carillon")
    rows = [tuple(int(word) for word in line.split("|")) for line in counts.splitlines()]
    assert rows[0] == rows[1], rows
    return rows[0]


def everybody_once(world, prefix, count):
    assert written(world, prefix) == (count, count, 1)


def test_workers_that_are_killed_in_the_middle_of_a_job_neither_skip_nor_repeat_a_user(world):
    prefix, users = names(5000)
    job = trigger(world, users + users[:100])
    for _ in range(5):
        before = status(world, job)["done"]
        until(lambda before=before: status(world, job)["done"] > before or status(world, job)["state"] == "done", "the job to go on")
        for worker in world.workers:
            worker.kill()
        for worker in world.workers:
            worker.start()
    until(lambda: status(world, job)["state"] == "done", "the job to be done", patience=180)
    assert status(world, job) == {"state": "done", "total": 5000, "done": 5000, "skipped": 0, "failed": 0}
    everybody_once(world, prefix, 5000)


def test_a_worker_that_stands_still_is_replaced_and_may_wake_up(world):
    prefix, users = names(3000)
    job = trigger(world, users)
    until(lambda: status(world, job)["done"] > 0, "the job to begin")
    world.workers[0].pause()
    try:
        before = status(world, job)["done"]
        # Whichever of them held it.
        until(lambda: status(world, job)["done"] > before + 300 or status(world, job)["state"] == "done", "the other one to go on")
    finally:
        world.workers[0].resume()
    world.workers[1].pause()
    try:
        until(lambda: status(world, job)["state"] == "done", "the job to be done", patience=120)
    finally:
        world.workers[1].resume()
    everybody_once(world, prefix, 3000)


@pytest.mark.parametrize("moment", ["sent", "durable", "begun"])
def test_a_notify_to_ten_thousand_whose_node_is_killed_reaches_everybody_or_nobody(world, moment):
    prefix, users = names(10_000)
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = json.dumps({"title": "All", "user_ids": users}).encode()

    def ask(api):
        return requests.post(world.apis[api].url + "/v1/internal/notify", data=body, headers=bearer(world.key) | key, timeout=120)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        if moment == "sent":
            connection = socket.create_connection(("127.0.0.1", world.apis[0].port))
            head = f"POST /v1/internal/notify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key}\r\nIdempotency-Key: {key['Idempotency-Key']}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            world.apis[0].kill()
            connection.close()
        else:
            asked = pool.submit(ask, 0)
            look = {
                "durable": f"SELECT count(*) FROM job_users WHERE user_id LIKE '{prefix}%'",
                "begun": f"SELECT count(*) FROM notifications WHERE user_id LIKE '{prefix}%'",
            }[moment]
            until(lambda: world.postgres.sql(look, "carillon") != "0", f"the job to be {moment}")
            world.apis[0].kill()
            with pytest.raises(requests.RequestException):
                asked.result()
            # Nobody asks again: a worker takes it over.
            until(lambda: written(world, prefix)[0] == 10_000, "a worker to finish the job", patience=180)
            everybody_once(world, prefix, 10_000)

    def again():
        answer = ask(1)
        assert answer.status_code in (201, 409), answer.text
        return answer if answer.status_code == 201 else None

    answer = until(again, "the answer to the same key", patience=180)
    assert [item["user_id"] for item in answer.json()["notifications"]] == users
    assert {item["seq"] for item in answer.json()["notifications"]} == {1}
    if moment != "sent":
        assert answer.headers["idempotent-replayed"] == "true"
    everybody_once(world, prefix, 10_000)


def test_an_upload_whose_node_is_killed_leaves_nothing(world):
    prefix, users = names(20_000)
    connection = socket.create_connection(("127.0.0.1", world.apis[0].port))
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key}\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000000\r\n\r\n"
    connection.sendall(head.encode() + b'{"title":"Half"}\n' + b"".join(f"{user}\n".encode() for user in users))
    until(lambda: int(world.postgres.sql(f"SELECT count(*) FROM job_users WHERE user_id LIKE '{prefix}%'", "carillon")) >= 10_000, "half of it to be there")
    world.apis[0].kill()
    connection.close()
    # Its minute of grace is over.
    world.postgres.sql("UPDATE jobs SET lease_until = now() WHERE state = 'loading'", "carillon")
    # Workers look once a minute, and soon after they began.
    assert world.workers[0].stop() == 0
    world.workers[0].start()
    left = "SELECT (SELECT count(*) FROM jobs WHERE state IN ('loading', 'failed')) + (SELECT count(*) FROM job_users)"
    until(lambda: world.postgres.sql(left, "carillon") == "0", "a worker to forget it", patience=300)
    assert written(world, prefix) == (0, 0, 0)


class Held:
    """What a transaction keeps locked until it is released; `lock` answers "held" once it has it."""

    JOB_USERS = "LOCK TABLE job_users IN SHARE MODE; SELECT 'held';"

    def __init__(self, world, lock):
        port = str(world.postgres.port)
        self.process = subprocess.Popen(
            [f"{world.postgres.programs}/psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "carillon", "-d", "carillon"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(f"BEGIN; {lock}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "held\n"

    def release(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate("COMMIT;\n", timeout=PATIENCE)


def test_a_large_upload_waits_for_postgres_in_the_client_and_costs_the_node_little(world):
    # 50 MB; in memory the node would need several times as much for it.
    prefix, count, api = f"job-{uuid.uuid4().hex}-", 400_000, world.apis[0]
    filler = "x" * 80
    lines = [b'{"title":"Large","deliver_at":"2099-01-01T00:00:00Z"}\n']
    lines += ["".join(f'"{prefix}{filler}{number:07}"\n' for number in range(start, start + 4000)).encode() for start in range(0, count, 4000)]
    length = sum(len(part) for part in lines)
    trigger(world, names(3000)[1])
    idle, most, sent = api.memory(), 0, 0
    connection = socket.create_connection(("127.0.0.1", api.port))
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}\r\n"
    connection.sendall(f"{head}Connection: close\r\n\r\n".encode())

    def send():
        nonlocal sent
        for part in lines:
            connection.sendall(part)
            sent += len(part)

    lock = Held(world, Held.JOB_USERS)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        seen, same = -1, 0

        def stands_still():
            nonlocal seen, same
            same = same + 1 if sent == seen else 0
            seen = sent
            return same >= 20

        until(stands_still, "the client to be held back")
        assert sent < length / 2
        blocked = api.memory() - idle
    finally:
        lock.release()
    while sender.is_alive():
        most = max(most, api.memory() - idle)
        sender.join(0.05)
    answer = connection.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 202 "), answer
    job = json.loads(answer.partition("\r\n\r\n")[2])["job_id"]
    assert status(world, job)["total"] == count
    print(f"{length >> 20} MB sent, {blocked >> 10} KB more while held back, {most >> 10} KB more at most")
    assert blocked < 24 << 20 and most < 24 << 20
    # What is left of it would keep the workers of the other tests.
    world.postgres.sql(f"DELETE FROM job_users WHERE job_id = '{job}'", "carillon")
    until(lambda: status(world, job)["state"] == "done", "the job to end")


def test_the_queue_is_measured(world):
    prefix, users = names(2000)
    # Only who was notified before has a head to hold. The job cannot end before it is let go.
    world.notify(users[0])
    lock = Held(world, f"SELECT 'held' FROM heads WHERE user_id = '{users[0]}' FOR UPDATE;")
    try:
        job = trigger(world, users)
        until(lambda: any(worker.metrics()['carillon_queue_depth{queue="jobs"}'] >= 1 for worker in world.workers), "the queue's depth")
    finally:
        lock.release()
    until(lambda: status(world, job)["state"] == "done", "the job to be done", patience=120)
    until(lambda: all(worker.metrics()['carillon_queue_depth{queue="jobs"}'] == 0 for worker in world.workers), "the queue to be empty")
    assert all(worker.metrics()['carillon_queue_oldest_seconds{queue="jobs"}'] == 0 for worker in world.workers)
