"""Postgres is put back to an earlier state. Whoever was ahead of it is told `resync`; nobody gets silence, a number twice, or a count of before."""

import os
import shutil
import subprocess

import pytest
import requests

from carillon import PATIENCE, bearer
from servers import Postgres, World, until


@pytest.fixture(scope="module")
def world():
    with World(workers=1, settings={"CARILLON_DRAIN_SECONDS": "0"}) as world:
        world.database, world.epochs = "carillon", set()
        yield world


def connect(world, postgres, database):
    """What an operator sets for nodes that are started from now on."""
    world.postgres, world.database = postgres, database
    world.environment["CARILLON_DATABASE_URL"] = f"postgresql://carillon@127.0.0.1:{postgres.port}/{database}"


class Way:
    """Of taking a backup and of restoring it. `running`: the nodes go on meanwhile."""

    running = False

    def __init__(self, world):
        self.world = world
        self.server = world.postgres
        # Where the server's programs may write.
        self.place = os.path.join(self.server.home, type(self).__name__)

    def take(self):
        """While the nodes work."""

    def restore(self):
        raise NotImplementedError


class Dump(Way):
    def take(self):
        self.server._run("pg_dump", f"--dbname={self.address(self.world.database)}", "--format=custom", f"--file={self.place}")

    def address(self, database, server=None):
        return f"postgresql://carillon@127.0.0.1:{(server or self.server).port}/{database}"

    def load(self, database, server=None):
        server = server or self.server
        server.sql(f"CREATE DATABASE {database}")
        self.server._run("pg_restore", f"--dbname={self.address(database, server)}", "--no-owner", "--exit-on-error", self.place)
        connect(self.world, server, database)


class DumpToAnotherDatabase(Dump):
    def restore(self):
        self.load("loaded")


class DumpInTheSamePlace(Dump):
    def restore(self):
        self.server.sql(f"DROP DATABASE {self.world.database}")
        self.load(self.world.database)


class DumpUnderRunningNodes(Dump):
    """They come as soon as they may: to find all of it, or nothing."""

    running = True

    def restore(self):
        self.server.sql(f"DROP DATABASE {self.world.database} WITH (FORCE)")
        self.server.sql(f"CREATE DATABASE {self.world.database}")
        self.server._run(
            "pg_restore", f"--dbname={self.address(self.world.database)}", "--no-owner", "--exit-on-error", "--single-transaction", self.place)


class DumpIntoTheLiveDatabase(Dump):
    """No connection ends: the tables are others from one moment to the next."""

    running = True

    def restore(self):
        script = self.place + ".sql"
        self.server._run("pg_restore", "--no-owner", f"--file={script}", self.place)
        # Nodes and it may wait for each other's tables in a ring, and then either gives way.
        until(lambda: self.is_loaded(script), "the dump to be loaded")

    def is_loaded(self, script):
        try:
            self.server._run(
                "psql", f"--dbname={self.address(self.world.database)}", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction",
                "--command=DROP SCHEMA public CASCADE", "--command=CREATE SCHEMA public", f"--file={script}")
        except AssertionError as error:
            print(error)
            return False
        return True


class DumpToAnotherServer(Dump):
    def restore(self):
        other = self.world._keep(Postgres(self.world.folder, "another"))
        self.load("carillon", other)


class Template(Way):
    def take(self):
        # Nobody may be connected to what is copied.
        self.server.sql(f"ALTER DATABASE {self.world.database} ALLOW_CONNECTIONS false")
        self.server.sql(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.world.database}'")
        self.server.sql(f"CREATE DATABASE copied TEMPLATE {self.world.database}")
        self.server.sql(f"ALTER DATABASE {self.world.database} ALLOW_CONNECTIONS true")

    def restore(self):
        connect(self.world, self.server, "copied")


class RecoveryToAnEarlierTime(Way):
    def take(self):
        self.server._run(
            "pg_basebackup", f"--pgdata={self.place}", "--host=127.0.0.1", f"--port={self.server.port}", "--username=carillon", "--checkpoint=fast",
            "--no-sync")
        self.server.sql("SELECT pg_create_restore_point('here')")

    def restore(self):
        old = self.server.data
        self.server.stop()
        with open(os.path.join(self.place, "postgresql.auto.conf"), "a") as file:
            file.write(f"restore_command = 'cp {old}/pg_wal/%f %p'\nrecovery_target_name = 'here'\nrecovery_target_action = 'promote'\n")
        signal = os.path.join(self.place, "recovery.signal")
        with open(signal, "w"):
            pass
        shutil.chown(signal, self.server.user)
        self.server.data = self.place
        self.server.start()
        until(lambda: self.server.sql("SELECT pg_is_in_recovery()") == "f", "the recovery")
        # What Redis has is not needed for it.
        self.world.redis.cli("FLUSHALL")


class ColdCopy(Way):
    """The same server, the same timeline, and a log that goes back."""

    def take(self):
        self.server.stop()
        self.copy(self.server.data, self.place)
        self.server.start()

    def restore(self):
        self.server.stop()
        shutil.rmtree(self.server.data)
        self.copy(self.place, self.server.data)
        self.server.start()

    @staticmethod
    def copy(folder, other):
        subprocess.run(["cp", "-a", folder, other], check=True, timeout=60)


class ColdCopyUnderRunningNodes(ColdCopy):
    running = True


class ColdCopyThatNobodyRemembers(ColdCopy):
    """Nodes and Redis have forgotten all: the operator says so."""

    def restore(self):
        super().restore()
        self.world.redis.cli("FLUSHALL")
        assert self.world.carillon("epoch", "advance").startswith("epoch ")


WAYS = [DumpToAnotherDatabase, DumpIntoTheLiveDatabase, ColdCopy, ColdCopyUnderRunningNodes, RecoveryToAnEarlierTime, DumpToAnotherServer]
if os.environ.get("CARILLON_TEST_LONG"):
    # Each is noticed by what one of the others is noticed by. The server of the last one is another.
    WAYS[-1:-1] = [DumpInTheSamePlace, DumpUnderRunningNodes, Template, ColdCopyThatNobodyRemembers]


def parts(position):
    return tuple(int(part) for part in position.split("-"))


def first_count(world, user):
    answer = requests.get(world.apis[0].url + "/v1/notifications/count", headers=bearer(world.token(user)), timeout=PATIENCE)
    return answer.json() if answer.status_code == 200 else None


@pytest.mark.parametrize("way", WAYS)
def test_a_restore_to_an_earlier_state_has_every_client_begin_anew(world, way):
    way = way(world)
    loser, idle, late = (world.user(name) for name in ("loser", "idle", "late"))
    kept = {loser: [world.notify(loser)["id"] for _ in range(3)], idle: [world.notify(idle)["id"]], late: []}
    streams = {user: world.stream(user) for user in kept}
    try:
        kept_at = {user: stream.expect("ready").id for user, stream in streams.items()}
        way.take()
        # Every connection of the nodes is up again.
        world.wait_until_whole()
        for number in range(5):
            for made, user in zip(world.notify([loser, late], title=f"lost {number}"), (loser, late)):
                assert streams[user].expect("message").data["id"] == made["id"]
        assert world.get(loser, "/count")["unread"] == 8 and world.get(late, "/count")["unread"] == 5
        positions = {user: [kept_at[user], streams[user].last] for user in kept}
        positions[loser].append(positions[loser][0].split("-")[0] + "-6")
        world.epochs |= {parts(position)[0] for position in kept_at.values()}

        if way.running:
            way.restore()
            for user, stream in streams.items():
                resync = stream.expect("resync")
                assert parts(resync.id)[0] not in world.epochs and resync.data == {"last_event_id": resync.id, "unread": len(kept[user])}
        else:
            for node in world.nodes:
                assert node.stop() == 0
            way.restore()
            for node in world.nodes:
                node.start()
        # Nothing of before is said in the first moment either.
        first = until(lambda: first_count(world, loser), "an answer", 60)
        assert first["unread"] == 3, first
        world.wait_until_whole()
        for user, ids in kept.items():
            count = world.get(user, "/count")
            epoch, seq = parts(count["last_event_id"])
            assert epoch not in world.epochs and seq == len(ids)
            assert count["unread"] == len(ids) and {item["id"] for item in world.inbox(user)} == set(ids)
            for position in positions[user]:
                again, begun = world.stream_when_possible(user, last=position)
                with again:
                    assert begun.data["unread"] == len(ids)
                    resync = again.expect("resync")
                    assert (resync.id, resync.data["unread"]) == (f"{epoch}-{seq}", len(ids))

        # On with the new life, past the numbers of the one that is lost.
        for _ in range(10):
            world.notify([loser, idle, late])
        for user, ids in kept.items():
            head = f"{epoch}-{len(ids) + 10}"
            for position in positions[user]:
                with world.stream_when_possible(user, last=position)[0] as again:
                    assert again.expect("resync").id == head
            again, begun = world.stream_when_possible(user, last=f"{epoch}-{len(ids)}")
            with again:
                assert begun.id == f"{epoch}-{len(ids)}"
                shown = [again.expect("message") for _ in range(10)]
                assert [event.data["unread"] for event in shown] == list(range(len(ids) + 1, len(ids) + 11))
                assert again.last == head
                made = world.notify(user)
                assert again.expect("message").data["id"] == made["id"]
            assert world.get(user, "/count")["unread"] == len(ids) + 11 == len(world.inbox(user))
        for node in world.nodes:
            assert node.metrics().get("carillon_unread_drift_total", 0) == 0
    finally:
        for stream in streams.values():
            stream.close()
