"""What the audit log keeps when Postgres, or a node, goes away."""

import json
import uuid

import requests

from carillon import PATIENCE, bearer
from servers import World, until


def write(world, user, api=0):
    """A request that changes something; its id and status."""
    request_id = uuid.uuid4().hex
    answer = requests.post(
        world.apis[api].url + "/v1/notifications/seen", headers=bearer(world.token(user)) | {"X-Request-Id": request_id}, timeout=PATIENCE)
    return request_id, answer.status_code


def statuses(world, user):
    lines = world.postgres.sql(f"SELECT request_id || ' ' || status FROM audit WHERE subject = '{user}'", database="carillon").split("\n")
    return {line.split()[0]: int(line.split()[1]) for line in lines if line}


def test_rows_wait_for_postgres():
    with World(edges=0) as world:
        user = world.user()
        expected = dict([write(world, user)])
        until(lambda: statuses(world, user) == expected, "the first row")
        world.postgres.kill()
        refused = [write(world, user) for _ in range(30)]
        assert {status for _, status in refused} == {503}
        assert until(lambda: world.apis[0].metrics()["carillon_audit_waiting"] == 30, "the rows to wait")
        world.postgres.start()
        expected |= dict(refused)
        until(lambda: statuses(world, user) == expected, "all rows")
        metrics = world.apis[0].metrics()
        assert metrics["carillon_audit_dropped_total"] == 0 and metrics["carillon_audit_waiting"] == 0


def test_a_node_that_stops_writes_what_it_has():
    with World(edges=0) as world:
        user = world.user()
        expected = dict([write(world, user) for _ in range(20)])
        # Of the current second, so that its sum is not due.
        assert requests.post(world.apis[0].url + "/v1/notifications/seen", timeout=PATIENCE).status_code == 401
        assert world.apis[0].stop() == 0
        assert statuses(world, user) == expected
        assert world.postgres.sql("SELECT sum(count) FROM audit WHERE status = 401", database="carillon") == "1"


def test_who_asks_on_past_the_limit_does_not_fill_the_log():
    with World(edges=0, settings={"CARILLON_RATE_LIMIT_USER": "5"}) as world:
        user = world.user()
        session = requests.Session()
        session.headers.update(bearer(world.token(user)))
        done = [session.post(world.apis[0].url + "/v1/notifications/seen", timeout=PATIENCE).status_code for _ in range(400)]
        refused = done.count(429)
        assert refused >= 380 and set(done) == {200, 429}

        def counts():
            return world.postgres.sql(
                f"SELECT sum(count) || ' ' || (count(*) < 100) FROM audit WHERE subject = '{user}' AND status = 429", database="carillon")  # fmt: skip

        until(lambda: counts() == f"{refused} true", f"{refused} requests in a few rows")


def test_old_rows_are_removed():
    with World(edges=0, workers=1, settings={"CARILLON_RETENTION_DAYS": "2"}) as world:
        user = world.user()
        # UUIDv7 of that day.
        world.postgres.sql(
            "INSERT INTO audit (id, at, subject_kind, subject, method, status, count, address, request_id)"
            " SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || '8000000000000000')::uuid, at, 'user', '" + user + "', 'POST',"
            " 200, 1, '192.0.2.1', days::text FROM (SELECT days, now() - make_interval(days => days) AS at FROM unnest(ARRAY[1, 3]) days) d",
            database="carillon")  # fmt: skip
        until(lambda: statuses(world, user) == {"1": 200}, "the older row to go", 60)


def test_an_error_of_the_service_is_in_both_logs_under_the_requests_id():
    with World(edges=0) as world:
        user = world.user()
        world.postgres.sql("ALTER FUNCTION apply_changes RENAME TO taken_away", database="carillon")
        request_id, status = write(world, user)
        assert status == 500
        until(lambda: statuses(world, user) == {request_id: 500}, "the row")
        with open(world.apis[0].log) as log:
            lines = [json.loads(line) for line in log if request_id in line]
        assert len(lines) == 1 and lines[0]["request_id"] == request_id and lines[0]["level"] == "error", lines
