"""A copy of the counts in Redis that says something wrong is found and mended."""

import os
import subprocess
import time

from carillon import APIS, call, eventually, local, metrics, new_user, notify, token


def redis(*arguments):
    done = subprocess.run(["redis-cli", "-u", os.environ["CARILLON_REDIS_URL"], *arguments], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.rstrip("\n")


def drifted():
    port = next(line.split()[2] for line in local("status").splitlines() if line.startswith("worker-1"))
    return metrics(f"http://127.0.0.1:{port}")["carillon_unread_drift_total"]


def test_a_copy_that_drifted_is_mended_and_counted():
    user = new_user()
    jwt = token(user)
    notify(user)
    name = eventually(lambda: redis("--scan", "--pattern", f"*{user}*:n"), "the copy")
    before = drifted()
    epoch, seq, unread, unseen, counts = redis("GET", name).split(" ", 4)
    assert (int(seq), unread, unseen) == (1, "1", "1")
    redis("SET", name, f"{epoch} {seq} 7 {unseen} {counts}", "EX", "300")
    eventually(lambda: redis("GET", name).split(" ")[2] == "1", "the copy to be mended")
    eventually(lambda: drifted() == before + 1, "the drift to be counted once")
    assert call("GET", "/v1/notifications/count", jwt, base=APIS[0]).json()["unread"] == 1


def test_a_newer_copy_stays_and_an_older_one_goes_whatever_its_form():
    user = new_user()
    notify(user)
    name = eventually(lambda: redis("--scan", "--pattern", f"*{user}*:n"), "the copy")
    before = drifted()
    epoch, seq, *counts = redis("GET", name).split(" ", 4)
    assert len(epoch) == len(seq) == 19

    # As if a later write had been there first. A write and the worker's look at it leave it as it is.
    newer = " ".join([epoch, "9".zfill(19), *counts])
    redis("SET", name, newer, "EX", "300")
    notify(user)
    time.sleep(7)
    assert redis("GET", name) == newer

    # Another version writes its numbers without zeros.
    for text in (f"{int(epoch)} 1 7 7 {counts[2]}", "nonsense", f"{int(epoch)} 1"):
        redis("SET", name, text, "EX", "300")
        seq = notify(user)[0]["seq"]
        eventually(lambda: of_copy(name)[0] == seq, f"the copy instead of {text!r}")
    same = f"{int(epoch)} {seq} {' '.join(redis('GET', name).split(' ', 4)[2:])}"
    redis("SET", name, same, "EX", "300")
    eventually(lambda: redis("GET", name) != same, "the copy in our own form")
    assert of_copy(name)[0] == seq and drifted() == before


def of_copy(name):
    _, seq, unread, unseen, counts = redis("GET", name).split(" ", 4)
    return int(seq), unread, unseen, counts


def test_an_inbox_of_very_many_customers_has_a_small_copy_and_right_counts():
    user = new_user()
    jwt = token(user)
    customers = [f"{'long' * 25}-{number}" for number in range(100)]
    for customer in customers:
        notify(user, customer_id=customer)
    name = eventually(lambda: redis("--scan", "--pattern", f"*{user}*:n"), "the copy")
    eventually(lambda: of_copy(name) == (100, "100", "100", "-"), "the copy of all")
    for base in APIS:
        counts = call("GET", "/v1/notifications/count", jwt, base=base).json()
        assert (counts["unread"], counts["by_type"]) == (100, {"SYSTEM": 100})
        one = call("GET", f"/v1/notifications/count?customer_id={customers[7]}", jwt, base=base).json()
        assert (one["unread"], one["by_type"]) == (1, {"SYSTEM": 1})
    call("POST", "/v1/notifications/read-all", jwt, base=APIS[0])
    # Small again, it is whole again.
    eventually(lambda: of_copy(name) == (101, "0", "0", "{}"), "the copy after all was read")
