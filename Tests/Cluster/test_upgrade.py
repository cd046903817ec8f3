"""Nodes of two versions beside each other on one Postgres and one Redis, and a schema that is newer than the nodes."""

import collections
import json
import os
import queue
import random
import subprocess
import threading

import pytest
import requests

from carillon import PATIENCE, bearer
from servers import Node, World, until
from versions import Translation, next_program, oldest_program

# What a later version may do to the schema, so that the version before goes on: new columns, a table, an index, another form of a function, and a function
# with another body.
LATER = """
ALTER TABLE heads ADD COLUMN pinned integer NOT NULL DEFAULT 0;
ALTER TABLE notifications ADD COLUMN reaction text;
ALTER TABLE changes ADD COLUMN origin text;
ALTER TABLE cluster ADD COLUMN region text;
CREATE INDEX notifications_reaction ON notifications (user_id, reaction) WHERE reaction IS NOT NULL;
CREATE TABLE reactions (user_id text COLLATE "C" NOT NULL, id uuid NOT NULL, reaction text NOT NULL, PRIMARY KEY (user_id, id));
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('apply_changes'::regproc), 'v_now := clock_timestamp();', 'v_now := clock_timestamp(); -- as before');
END $$;
CREATE FUNCTION read_feed(p_users text[], p_epochs bigint[], p_after bigint[], p_rows integer[], p_limit integer, p_region text)
RETURNS SETOF reactions LANGUAGE sql STABLE AS $$ SELECT * FROM reactions $$;
"""
# And what it may not, without saying so.
LAST = "-- oldest program: KNOWN\nALTER TABLE heads RENAME COLUMN unread TO unread_count;\n"


class Next:
    """The version after this one: one more migration, and frames that the present version does not know."""

    def __init__(self, world):
        self.translation = Translation(world.redis)
        self.binary, self.known = next_program(world.binary, os.path.join(world.folder, "next"), LATER)
        self.settings = {"CARILLON_REDIS_URL": self.translation.url}

    def check(self, world):
        # Each side had frames that it could not read.
        assert self.translation.published > 0 and self.translation.heard > 0
        for edge in world.edges:
            assert edge.metrics()["carillon_malformed_messages_total"] > 0, edge.name

    def close(self):
        self.translation.close()


class Oldest:
    """The oldest commit whose nodes understand those of today, and are understood by them; here it meets the schema of tomorrow as well."""

    def __init__(self, world):
        self.binary, self.settings = oldest_program(world.binary), {}
        self.schema, self.known = next_program(world.binary, os.path.join(world.folder, "next"), LATER)

    def check(self, world):
        for edge in world.edges:
            assert edge.metrics()["carillon_malformed_messages_total"] == 0, edge.name

    def close(self):
        pass


# The build of the oldest commit takes many minutes.
VERSIONS = [Next, Oldest] if os.environ.get("CARILLON_TEST_LONG") else [Next]


class Follower:
    """A client: after each end of its stream it goes on at the other edge, where it was."""

    def __init__(self, world, user, edge):
        self.world, self.user, self.edge = world, user, edge
        self.story, self.names, self.failure = [], collections.Counter(), None
        self.first = self.last = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._over.is_set():
            try:
                with self.world.stream(self.user, self.edge, last=self.last) as stream:
                    if stream.status != 200:
                        self.failure = f"answered {stream.status}"
                        return
                    self._follow(stream)
            except (OSError, IndexError, ValueError):
                # That edge is down.
                self._over.wait(0.05)
            self.edge = 1 - self.edge

    def _follow(self, stream):
        while not self._over.is_set():
            try:
                event = stream.events.get(timeout=0.5)
            except queue.Empty:
                continue
            if event is None:
                return
            self.names[event.name] += 1
            if event.has_id:
                self.last = event.id
            if event.name == "ready":
                self.first = self.first or event.id
            elif event.name != "close":
                self.story.append((event.id, (event.data or {}).get("id"), (event.data or {}).get("unread")))

    def stop(self):
        self._over.set()
        self._thread.join(PATIENCE)


class Application:
    """Sends, reads and deletes by both API nodes in turn, and repeats at the other one what was not answered."""

    def __init__(self, world, users):
        self.world, self.users = world, users
        self.done, self.wrong = 0, []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(3)]
        for thread in self._threads:
            thread.start()

    def _run(self, number):
        chance, sent = random.Random(number), []
        while not self._over.is_set():
            user = chance.choice(self.users)
            if len(sent) > 4 and chance.random() < 0.4:
                user, made = sent.pop(chance.randrange(len(sent)))
                delete = chance.random() < 0.5
                self._ask(
                    chance, "DELETE" if delete else "PATCH", f"/v1/notifications/{made}" + ("" if delete else "/read"), self.world.token(user),
                    {}, (204, 404) if delete else (200,))
            else:
                key = {"Idempotency-Key": f"{number}-{chance.getrandbits(64)}"}
                answer = self._ask(
                    chance, "POST", "/v1/internal/notify", self.world.key, key, (201,), json.dumps({"title": "hello", "user_ids": [user]}))
                if answer is not None:
                    sent.append((user, answer.json()["notifications"][0]["id"]))
            self.done += 1
            self._over.wait(0.01)

    def _ask(self, chance, method, path, text, headers, good, body=None):
        api = chance.randrange(2)
        while not self._over.is_set():
            api = 1 - api
            try:
                answer = requests.request(
                    method, self.world.apis[api].url + path, headers=bearer(text) | headers, data=body, timeout=PATIENCE)
            except requests.RequestException:
                self._over.wait(0.05)
                continue
            if answer.status_code in good:
                return answer
            # 409: the node that was stopped had begun with it.
            if answer.status_code not in (409, 503):
                self.wrong.append((method, path, answer.status_code, answer.text))
            self._over.wait(0.05)
        return None

    def wait_for(self, count, what):
        start = self.done
        until(lambda: self.done >= start + count or self.wrong, f"{count} requests {what}", 60)
        assert self.wrong == [], self.wrong[:3]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)


def logged(node, message):
    with open(node.log, errors="replace") as file:
        return [line for text in file if text.startswith("{") and (line := json.loads(text))["message"] == message]


def carillon(world, binary, *arguments):
    done = subprocess.run([binary, *arguments], env=world.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_of_two_versions_side_by_side(version):
    with World(settings={"CARILLON_DRAIN_SECONDS": "1"}) as world:
        other = version(world)
        try:
            side_by_side(world, other)
        finally:
            other.close()


def side_by_side(world, other):
    present = [world.apis[0], world.edges[0]]
    schema = getattr(other, "schema", other.binary)
    users = [world.user() for _ in range(5)]
    # The second one of each user finds the edge of the other version as soon as there is one.
    followers = [Follower(world, user, edge) for user in users for edge in (0, 1)]
    world.edges.append(world.edges[0])
    world.apis.append(world.apis[0])
    try:
        with Application(world, users) as application:
            application.wait_for(40, "at the present version")
            # As an upgrade begins: the schema first, under those who work on the one before.
            assert carillon(world, schema, "migrate") == (0, "schema is up to date\n")
            application.wait_for(40, "on the newer schema")
            added = [
                world._keep(Node(world, f"{role}-other", role, other.settings, binary=other.binary)) for role in ("edge", "api")]
            for node in added:
                until(node.is_whole, f"{node.name} to be ready", 60)
            world.edges[1], world.apis[1] = added
            for node in present:
                until(lambda node=node: node.health()[1].get("schema") == {"version": other.known + 1, "known": other.known}, f"{node.name} to see the schema")
                assert node.is_whole() and len(logged(node, "the schema is newer than this program, which works on it")) == 1
            application.wait_for(60, "at both versions")
            # Back and forth: each node is stopped, with its streams, and comes again.
            for node in [*present, *added]:
                assert node.stop() == 0
                application.wait_for(20, f"without {node.name}")
                node.start()
                until(node.is_whole, f"{node.name} to be ready again", 60)
                application.wait_for(20, f"with {node.name} again")
            # So that somebody listens at each edge, whichever was stopped last.
            followers += [Follower(world, user, edge) for user in users for edge in (0, 1)]
            until(lambda: all(follower.first for follower in followers), "all to be connected")
            application.wait_for(80, "to the end")
        for user in users:
            counts = [world.get(user, "/count", api=api) for api in range(2)]
            assert counts[0] == counts[1]
            assert counts[0]["unread"] == sum(not item["read"] for item in world.inbox(user))
            head = counts[0]["last_event_id"]
            mine = [follower for follower in followers if follower.user == user]
            whole = mine[0]
            for follower in mine:
                until(lambda follower=follower: follower.last == head or follower.failure, f"a stream of {user} to reach {head}: {follower.last}")
                assert follower.failure is None
                assert set(follower.names) <= {"ready", "message", "update", "delete", "close"}, follower.names
                epoch, first = map(int, follower.first.split("-"))
                numbers = [f"{epoch}-{number}" for number in range(first + 1, int(head.split("-")[1]) + 1)]
                assert [entry[0] for entry in follower.story] == numbers, "lost, doubled or reordered"
                # Word for word what another stream of the user showed, by whichever node each change came.
                assert follower.story == whole.story[len(whole.story) - len(follower.story):]
                assert follower.story[-1][2] == counts[0]["unread"]
        other.check(world)
        for node in present:
            # When it began again it saw it from the start.
            assert len(logged(node, "the schema is newer than this program, which works on it")) == 2
    finally:
        for follower in followers:
            follower.stop()
        world.edges.pop()
        world.apis.pop()


def test_a_node_waits_for_its_schema_and_ends_on_one_that_leaves_no_room_for_it():
    with World(workers=1, settings={"CARILLON_DRAIN_SECONDS": "0"}) as world:
        binary, known = next_program(world.binary, os.path.join(world.folder, "next"), LATER)
        last, _ = next_program(binary, os.path.join(world.folder, "last"), LAST)
        refusal = f"the schema is at {known + 2} and needs a program that knows {known + 1} migrations or more; this one knows {known}: install the later version"
        user = world.user()
        early = world._keep(Node(world, "early", "api", {}, binary=binary))
        waiting = until(lambda: logged(early, "waiting for the schema: run carillon migrate"), "the later node to wait")
        assert (waiting[0]["version"], waiting[0]["known"]) == (str(known), str(known + 1))
        code, text = carillon(world, binary, "check")
        assert code == 1 and f"is at {known} of {known + 1}: run carillon migrate" in text
        with world.stream(user) as stream:
            stream.expect("ready")
            assert carillon(world, binary, "migrate") == (0, "schema is up to date\n")
            until(early.is_whole, "the later node to be ready", 60)
            assert early.health()[1].get("schema") is None
            assert carillon(world, world.binary, "migrate") == (0, f"schema is newer than this program: version {known + 1}, {known} known\n")
            code, text = carillon(world, world.binary, "check")
            assert f"ok      schema: version {known + 1}, newer than this program, which knows {known}\n" in text and code == 0, text
            made = world.notify(user)
            assert stream.expect("message").data["id"] == made["id"]

            assert carillon(world, last, "migrate") == (0, "schema is up to date\n")
            for node in world.nodes:
                assert node.wait(60) == 1
                assert logged(node, "the schema is for later programs only, this node ends")
                assert logged(node, "node stopped"), "it ends in order"
            # It knows one more, and was to know that one.
            assert early.is_running
            assert [event.name for event in stream.until_end()] == ["close"]
        code, text = carillon(world, world.binary, "migrate")
        assert code == 1 and refusal in text
        code, text = carillon(world, world.binary, "check")
        assert code == 1 and refusal in text
        for node in world.nodes:
            node.start()
            assert node.wait() == 1 and refusal in node.tail(2)
        # Nothing but the column's new name was done to the data.
        assert world.postgres.sql(f"SELECT seq, unread_count FROM heads WHERE user_id = '{user}'", "carillon") == "1|1"
