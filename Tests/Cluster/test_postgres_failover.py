"""Another Postgres takes over, with all commits or without the last ones; or the same one restarts under writers."""

import threading

import pytest
import requests

from servers import PATIENCE, World, until


class Writers:
    """Notify users from several threads until they are stopped, and keep every answer. 503 and a lost connection are taken for "later"."""

    def __init__(self, world, users, threads=4):
        self.accepted, self.refused, self.wrong = [], [], []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(world, users, number), daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _write(self, world, users, number):
        turn = number
        while not self._over.is_set():
            turn += 1
            user = users[turn % len(users)]
            try:
                answer = world.publish(user, api=turn % len(world.apis))
            except requests.RequestException as error:
                self.refused.append(error)
                self._over.wait(0.05)
                continue
            if answer.status_code == 201:
                self.accepted += answer.json()["notifications"]
            elif answer.status_code == 503 and answer.headers.get("retry-after"):
                self.refused.append(answer)
                self._over.wait(0.05)
            else:
                self.wrong.append((answer.status_code, dict(answer.headers), answer.text))
                self._over.wait(0.05)

    def wait_for(self, count, what):
        start = len(self.accepted)
        until(lambda: len(self.accepted) >= start + count, what, 60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)


def make_synchronous(world):
    """A commit is answered once the replica has it, too."""
    world.postgres.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    world.postgres.sql("SELECT pg_reload_conf()")
    until(lambda: world.postgres.sql("SELECT sync_state FROM pg_stat_replication") == "sync", "the replica to be synchronous")


def refused_with_reason(world, user):
    answer = until(lambda: (found := world.publish(user)).status_code != 201 and [found], "a refusal")[0]
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["code"] == "notifications_m.unavailable"


def seqs(events):
    return [int(event.id.split("-")[1]) for event in events]


def take_until(stream, made, patience=60):
    """All events up to the one that shows this notification, or a new start that comes after it."""
    events = []
    while True:
        event = stream.next(patience)
        assert event is not None, f"the stream ended after {events[-3:]}"
        events.append(event)
        if event.name in ("message", "resync") and int(event.id.split("-")[1]) >= made["seq"]:
            return events


def reader_knows_all(events, start, world, user):
    """What a client that reloads its list at `resync` has in the end: each change once, in order, none missing."""
    known, expected = set(), start
    for event in events:
        if event.name == "resync":
            expected = int(event.id.split("-")[1])
            known = {item["id"] for item in world.inbox(user) if item["seq"] <= expected}
            continue
        assert event.name == "message", event
        expected += 1
        assert int(event.id.split("-")[1]) == expected, f"{event} where number {expected} was due"
        assert event.data["id"] not in known, f"shown twice: {event}"
        known.add(event.data["id"])
    assert known == {item["id"] for item in world.inbox(user)}


def test_a_replica_that_has_all_commits_takes_over():
    with World(apis=2, edges=2, replica=True) as world:
        make_synchronous(world)
        users = [world.user() for _ in range(5)]
        streams = [world.stream(user, edge) for user in users for edge in range(2)]
        try:
            begun = [stream.expect("ready") for stream in streams]
            with Writers(world, users) as writers:
                writers.wait_for(50, "fifty writes")
                world.postgres.kill()
                refused_with_reason(world, users[0])
                with world.stream(users[0]) as fresh:
                    assert fresh.status == 200 and fresh.expect("close").data["reason"] and fresh.retry >= 500
                world.replica.promote()
                writers.wait_for(50, "fifty writes to the new primary")
            assert writers.wrong == []
            world.wait_until_whole()
            last = {user: world.notify(user, title="last") for user in users}
            for stream, ready, user in zip(streams, begun, [user for user in users for _ in range(2)]):
                events = take_until(stream, last[user])
                reader_knows_all(events, int(ready.id.split("-")[1]), world, user)
                with world.stream_when_possible(user, last=ready.id)[0] as again:
                    reader_knows_all(take_until(again, last[user]), int(ready.id.split("-")[1]), world, user)
            stored = {item["id"] for user in users for item in world.inbox(user)}
            assert {made["id"] for made in writers.accepted} <= stored
            for user in users:
                count = world.get(user, "/count")
                assert count["unread"] == len(world.inbox(user)) == int(count["last_event_id"].split("-")[1])
        finally:
            for stream in streams:
                stream.close()


def test_a_promotion_that_lost_nothing_is_no_new_epoch():
    with World(replica=True) as world:
        make_synchronous(world)
        user = world.user()
        with world.stream(user) as stream:
            ready = stream.expect("ready")
            made = [world.notify(user) for _ in range(10)]
            world.postgres.kill()
            world.replica.promote()
            made.append(world.notify_when_possible(user))
            events = take_until(stream, made[-1])
            assert [event.name for event in events] == ["message"] * len(events), events[-3:]
            assert {entry["id"] for entry in made} <= {event.data["id"] for event in events}
        # A connection of the edge's to the server before may not have been made anew yet.
        again, begun = world.stream_when_possible(user, last=ready.id)
        with again:
            assert begun.id == ready.id
            assert again.expect("message").data["id"] == made[0]["id"]


def test_a_replica_that_lacks_the_last_commits_takes_over():
    with World(apis=2, edges=2, replica=True) as world:
        user, idle, loser = world.user(), world.user("idle"), world.user("loser")
        streams = [world.stream(user, edge) for edge in range(2)] + [world.stream(idle), world.stream(loser, 1)]
        try:
            begun = [stream.expect("ready") for stream in streams]
            old_epoch = int(begun[0].id.split("-")[0])
            kept = [world.notify(user, title=f"kept {number}")["id"] for number in range(5)]
            kept_idle = world.notify(idle, title="kept")["id"]
            for stream in streams[:2]:
                assert [stream.expect("message").data["id"] for _ in kept] == kept
            assert streams[2].expect("message").data["id"] == kept_idle
            head = world.postgres.sql("SELECT pg_current_wal_flush_lsn()")
            until(lambda: world.replica.sql(f"SELECT pg_last_wal_replay_lsn() >= '{head}'") == "t", "the replica to catch up")

            world.replica.cut_from_primary()
            lost = [world.notify([user, loser], title=f"lost {number}")[0]["id"] for number in range(7)]
            for stream in streams[:2]:
                assert [stream.expect("message").data["id"] for _ in lost] == lost
            for _ in lost:
                streams[3].expect("message")
            # The copies of the counts are in Redis by now.
            for api in range(2):
                assert world.get(user, "/count", api=api)["unread"] == 12
                assert world.get(loser, "/count", api=api)["unread"] == 7
            positions = [stream.last for stream in streams]

            world.postgres.kill()
            refused_with_reason(world, user)
            world.replica.promote()

            # Nobody writes: the open streams are told all the same.
            for stream, unread, last in zip(streams, (5, 5, 1, 0), (5, 5, 1, 0)):
                resync = stream.expect("resync")
                epoch, seq = (int(part) for part in resync.id.split("-"))
                assert epoch > old_epoch and seq == last
                assert resync.data == {"last_event_id": resync.id, "unread": unread}
            for api in range(2):
                until(lambda api=api: world.publish(world.user(), api=api).status_code == 201, "writes")
                for name, unread in ((user, 5), (idle, 1), (loser, 0)):
                    count = world.get(name, "/count", api=api)
                    assert count["unread"] == unread, f"{name} at api-{api + 1}: {count}"
                    assert int(count["last_event_id"].split("-")[0]) == epoch
                    assert len(world.inbox(name, api)) == unread
            assert {item["id"] for item in world.inbox(user)} == set(kept)

            # And on with the new epoch's numbers, once every connection to Postgres is up again.
            world.wait_until_whole()
            made = world.notify([user, idle, loser], title="new life")
            for stream, entry, seq in zip(streams, (made[0], made[0], made[1], made[2]), (6, 6, 2, 1)):
                event = stream.expect("message")
                assert (event.id, event.data["id"], event.data["unread"]) == (f"{epoch}-{seq}", entry["id"], seq)
            # A position of the old life means nothing, also where the new primary's head has passed it.
            for position, name in zip(positions, (user, user, idle, loser)):
                for edge in range(2):
                    with world.stream_when_possible(name, edge, position)[0] as again:
                        assert int(again.expect("resync").id.split("-")[0]) == epoch
                        entry = world.notify(name)
                        assert again.expect("message").data["id"] == entry["id"]
            for node in world.apis + world.edges:
                assert node.metrics().get("carillon_unread_drift_total", 0) == 0
        finally:
            for stream in streams:
                stream.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgres_restarts_under_writers(mode):
    with World(apis=2, edges=2) as world:
        users = [world.user() for _ in range(8)]
        streams = [world.stream(user, number % 2) for number, user in enumerate(users)]
        try:
            for stream in streams:
                stream.expect("ready")
            with Writers(world, users, threads=8) as writers:
                for _ in range(3):
                    writers.wait_for(60, "sixty writes")
                    world.postgres.stop(mode)
                    before = len(writers.refused)
                    until(lambda before=before: len(writers.refused) > before, "a refusal")
                    world.postgres.start()
                writers.wait_for(60, "sixty writes more")
            assert writers.wrong == [], f"neither 201 nor 503: {writers.wrong[:3]}"
            assert all(not isinstance(answer, requests.RequestException) for answer in writers.refused), "the nodes themselves did not restart"
            world.wait_until_whole()
            ids = [made["id"] for made in writers.accepted]
            assert len(set(ids)) == len(ids)
            for stream, user in zip(streams, users):
                last = world.notify(user, title="last")
                events = take_until(stream, last)
                assert [event.name for event in events] == ["message"] * len(events)
                assert seqs(events) == list(range(1, last["seq"] + 1))
                shown = {event.data["id"] for event in events}
                assert shown == {item["id"] for item in world.inbox(user)}
                assert world.get(user, "/count")["unread"] == last["seq"]
            stored = {item["id"] for user in users for item in world.inbox(user)}
            assert set(ids) <= stored
        finally:
            for stream in streams:
                stream.close()
