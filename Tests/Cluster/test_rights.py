"""Nodes with the rights that the shipped users of Redis and roles of Postgres have, and no others."""

import re
import secrets
import subprocess
from pathlib import Path

import pytest
import requests
from carillon import LOCAL, bearer, forged
from test_redis_topologies import ShardedRedis

from servers import PATIENCE, SECRET, Postgres, World, until

DEPLOY = Path(LOCAL).parent
ROLES = ("api", "edge", "worker")


def users(folder, *options):
    """The lines of an ACL file, and the password of each role's user."""
    passwords, words = {}, []
    for role in ROLES:
        passwords[role] = secrets.token_hex(16)
        path = Path(folder, f"password-{role}")
        path.write_text(passwords[role] + "\n")
        words += [f"--{role}", str(path)]
    done = subprocess.run([DEPLOY / "render-redis-users", *words, *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert not any(password in done.stdout for password in passwords.values())
    return done.stdout.splitlines(), passwords


class RestrictedWorld(World):
    """Every node has its role's user of Redis, under a prefix of its own, and the nodes' role of Postgres; another one made the schema."""

    def __init__(self, *arguments, cluster=False, **more):
        super().__init__(*arguments, **more)
        self.cluster = cluster

    def database_url(self, places):
        done = subprocess.run(
            [f"{Postgres.programs}/psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.postgres.port), "-U", "carillon", "-d", "carillon", "-v",
             "ON_ERROR_STOP=1", "-v", "owner=carillon_owner", "-v", "node=carillon_node", "-f", str(DEPLOY / "postgres" / "roles.sql")],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)  # fmt: skip
        assert done.returncode == 0, done.stderr
        options = ["--prefix", "ours"] + (["--cluster"] if self.cluster else [])
        lines, self.passwords = users(self.folder, *options)
        self.servers = getattr(self.redis, "servers", getattr(self.redis, "programs", [self.redis]))
        for server in self.servers:
            for line in lines:
                assert server.cli("ACL", "SETUSER", *line.split()[1:]) == "OK", line
        self.settings["CARILLON_REDIS_PREFIX"] = "ours"
        return f"postgresql://carillon_node@{places}/carillon?target_session_attrs=read-write"

    def carillon(self, *arguments):
        if arguments != ("migrate",):
            return super().carillon(*arguments)
        given = self.environment
        self.environment = given | {"CARILLON_DATABASE_URL": given["CARILLON_DATABASE_URL"].replace("carillon_node@", "carillon_owner@")}
        try:
            return super().carillon(*arguments)
        finally:
            self.environment = given

    def settings_of(self, role):
        scheme, places = self.redis.url.split("://")
        return {"CARILLON_REDIS_URL": f"{scheme}://carillon-{role}:{self.passwords[role]}@{places}"}

    def refusals(self):
        """What the servers have refused whom."""
        found = []
        for server in self.servers:
            lines = server.cli("ACL", "LOG").splitlines()
            found += [(lines[at + 1], lines[at + 3]) for at, line in enumerate(lines) if line == "object"]
        return found

    def walk(self):
        """Something of everything that nodes do with Redis."""
        key = bearer(self.carillon("apikey", "create", "--name", "all", "--scopes", "notify,direct,admin"))
        admin = bearer(forged({"sub": "root", "role": "admin", "exp": 4_000_000_000}, secret=SECRET.encode()))
        user = self.user()

        def ask(method, node, path, headers, **body):
            answer = requests.request(method, node.url + path, headers=headers, json=body or None, timeout=PATIENCE)
            assert answer.status_code < 300, f"{path} {answer.status_code}: {answer.text}"
            return answer.json() if answer.content else None

        api, edge = self.apis[0], self.edges[0]
        ticket = ask("POST", edge, "/v1/notifications/stream-ticket", bearer(self.token(user)))["ticket"]
        with self.stream(user) as stream, self.stream(user) as second:
            stream.expect("ready")
            ready = second.expect("ready")
            made = self.notify(user)
            assert stream.expect("message").data["id"] == made["id"]
            # A third stream is over the limit: the oldest one is closed, on whichever edge it is, and its return refused for a while.
            with requests.get(f"{self.edges[-1].url}/v1/notifications/sse?ticket={ticket}", stream=True, timeout=PATIENCE) as third:
                assert third.status_code == 200
                assert stream.expect("close").data["reason"] == "evicted"
            with self.stream(user, last=stream.last) as back:
                assert back.status == 204
            ask("POST", edge, "/v1/notifications/stream-renew", bearer(self.token(user)), connection_id=ready.data["connection_id"])
            assert second.expect("message").data["id"] == made["id"]
            ask("POST", api, "/v1/notifications/sse", key, title="now", user_ids=[user])
            assert second.expect("message").data["ephemeral"]
            ask("POST", api, "/v1/notifications/sse", key, title="to all", broadcast=True)
            assert second.expect("message").data["ephemeral"]
            ask("POST", api, "/v1/notifications/trigger", key, title="by job", user_ids=[user, self.user()])
            assert second.expect("message").data["title"] == "by job"
            until(lambda: ask("GET", api, "/v1/notifications/count", bearer(self.token(user)))["unread"] == 2, "both to be counted")
            seen = until(lambda: ask("GET", api, "/v1/admin/connections", admin)["data"], "who is connected")
            assert any(entry["user_id"] == user for entry in seen), seen
            ask("GET", api, f"/v1/admin/connections?user_id={user}", admin)
            ask("POST", api, f"/v1/admin/users/{user}/disconnect", admin)
            assert second.expect("close").data["reason"] == "disconnected"


@pytest.fixture(scope="module")
def world():
    with RestrictedWorld(edges=2, workers=1, settings={"CARILLON_CONNECTION_LIMIT": "2"}) as made:
        yield made


def test_nodes_are_refused_nothing(world):
    world.walk()
    assert world.refusals() == []
    assert "permission denied" not in Path(world.postgres.log).read_text()
    for node in world.nodes:
        assert "NOPERM" not in Path(node.log).read_text()


def test_nodes_are_refused_nothing_in_a_cluster_of_shards():
    with RestrictedWorld(edges=2, workers=1, redis=ShardedRedis, cluster=True, settings={"CARILLON_CONNECTION_LIMIT": "2"}) as world:
        world.walk()
        assert world.refusals() == []


FORBIDDEN = [
    ("api edge worker", "FLUSHALL"), ("api edge worker", "KEYS *"), ("api edge worker", "CONFIG GET *"), ("api edge worker", "ACL LIST"),
    ("api edge worker", "SHUTDOWN"), ("api edge worker", "MONITOR"), ("api edge worker", "INFO"), ("api edge worker", "PSUBSCRIBE *"),
    ("api edge worker", "CLIENT LIST"), ("api edge worker", "DEL ours:{u}:n"), ("api edge worker", "SET theirs:{u}:n 1"),
    ("api edge worker", "PUBLISH theirs:bcast x"), ("api edge worker", "EVAL x 1 theirs:edges"), ("api", "SUBSCRIBE ours:{u}:ch"), ("api", "ZREM ours:{u}:l x"),
    ("api", "SET ours:ticket:x 1"), ("edge", "GET ours:{u}:n"), ("edge", "PUBLISH ours:tasks x"), ("edge", "SUBSCRIBE ours:tasks"), ("worker", "PUBLISH ours:bcast x"),
    ("worker", "SUBSCRIBE ours:edge:x"), ("worker", "ZRANGE ours:{u}:l 0 -1"), ("worker", "SET ours:ticket:x 1"),
]  # fmt: skip


def test_a_role_may_not_do_what_is_not_its_business(world):
    server = world.servers[0]
    # Sentinel's clients ask for it.
    assert all(server.cli("ACL", "DRYRUN", f"carillon-{role}", "ROLE") == "OK" for role in ROLES)
    for roles, command in FORBIDDEN:
        for role in roles.split():
            answer = server.cli("ACL", "DRYRUN", f"carillon-{role}", *command.split())
            assert "permission" in answer, f"{role}: {command}: {answer}"


def test_what_is_granted_is_what_the_code_says(tmp_path):
    lines, _ = users(tmp_path)
    granted = {word[1:] for line in lines for word in line.split() if word.startswith("+")}
    source = "".join(path.read_text() for path in (DEPLOY.parent / "Sources" / "NotificationBus").glob("*.swift"))
    used = {name.lower() for name in re.findall(r"""(?:RedisCommand\("|redis\.call\(')([A-Z]+)""", source)}
    # What the client says by itself, and how it runs scripts.
    assert granted == used | {"ping", "role", "subscribe", "unsubscribe", "eval", "evalsha"}


def test_the_nodes_role_of_postgres_has_rows_and_functions_and_no_more(world):
    def sql(text, role="carillon_node"):
        done = subprocess.run(
            [f"{Postgres.programs}/psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(world.postgres.port), "-U", role, "-d", "carillon", "-c", text],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)  # fmt: skip
        return done.stdout.strip() + done.stderr

    for text in (
        "CREATE TABLE mine ()", "CREATE TEMP TABLE mine ()", "TRUNCATE notifications", "DROP TABLE notifications", "ALTER TABLE heads ADD x integer",
        "SET ROLE carillon_owner", "SET ROLE carillon", "COPY heads TO PROGRAM 'true'", "SELECT pg_read_file('PG_VERSION')", "CREATE ROLE another",
    ):  # fmt: skip
        answer = sql(text)
        assert re.search("permission denied|must be (owner|superuser)", answer), f"{text}: {answer}"
    assert "permission denied" in sql("CREATE ROLE another", "carillon_owner")
    assert sql("SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname LIKE 'carillon\\_%' GROUP BY 1") == "f"
    # The log's partitions are made while nodes run, with the owner's rights.
    newest = "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'changes'::regclass AND inhrelid::regclass::text <> 'changes_other'"
    name = sql(newest)
    world.postgres.sql(f"DROP TABLE {name}", "carillon")
    assert sql("SELECT keep_change_partitions('14 days')") == "0"
    assert sql(newest) == name
    assert sql(f"SELECT tableowner FROM pg_tables WHERE tablename = '{name}'") == "carillon_owner"
