"""Workers that die in the middle of deliveries. The e-mails of this cluster are files, one a delivery."""

import concurrent.futures
from pathlib import Path

from carillon import KEY, STATE, call, eventually, local, new_user, notify

MAIL = Path(STATE, "mail")
CUSTOMER = new_user("customer")
USERS = 100
ROUNDS = 12


def files(prefix):
    return {path.name for path in MAIL.glob("*.json") if f'"to" : "{prefix}' in path.read_text()}


def rows(state=None):
    """How many deliveries of this test's customer are in that state."""
    found, after = 0, None
    while True:
        query = {"customer_id": CUSTOMER, "limit": 200} | ({"state": state} if state else {}) | ({"after": after} if after else {})
        page = call("GET", "/v1/admin/deliveries", KEY, params=query).json()
        found, after = found + len(page["data"]), page["page"]["next"]
        if not after:
            return found


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_behind():
    prefix = new_user("mail")
    users = [f"{prefix}-{number}" for number in range(USERS)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda user: call("PUT", f"/v1/contacts/{user}", KEY, json={"email": f"{user}@example.org"}), users):
            assert answer.status_code == 200, answer.text

        # Waiting for it to be half done would be too late: it is killed while they come.
        sending = [pool.submit(notify, users, title=f"Round {number}", channels=["in_app", "email"], customer_id=CUSTOMER) for number in range(ROUNDS)]
        for _ in range(3):
            before = len(list(MAIL.glob("*.json")))
            eventually(lambda before=before: len(list(MAIL.glob("*.json"))) > before + 100, "some e-mails")
            local("kill", "worker-1")
            local("start", "worker-1")
        for request in sending:
            assert len(request.result()) == USERS
    total = USERS * ROUNDS
    assert rows() == total
    # What the dead ones had taken comes back when their leases end.
    eventually(lambda: rows("sent") == total, "all e-mails to be sent")
    assert len(files(prefix)) == total
    queues = call("GET", "/v1/admin/queues", KEY).json()["data"]
    assert [row["depth"] for row in queues if row["queue"] == "email" and row["state"] in ("due", "running", "dead")] == [0, 0, 0]
