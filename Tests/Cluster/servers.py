"""Servers of a test's own: Postgres with a replica, Redis, nodes, on free ports of 127.0.0.1.

Each ends exactly the processes that it started, by their pids; should the tests themselves be killed, the kernel ends them (PR_SET_PDEATHSIG).
"""

import contextlib
import glob
import json
import os
import pwd
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

import requests

from carillon import PATIENCE, Stream, bearer, forged

SECRET = "a secret of the tests' own nodes, long enough"


# What must be in no log: tokens, API keys, webhooks' secrets, tickets, credentials of headers and of URLs.
LEAKS = re.compile(
    r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.|\bck_[\w-]{43}|whsec_[\w/+=-]{16,}|[?&](?:ticket|token)=[^-&\s\"]|(?:Bearer|Basic) [\w.-]{8,}|"
    r"://[^:/@\s\"]*:[^@/\s\"]+@|" + re.escape(SECRET))


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def until(check, what, patience=PATIENCE):
    """Calls `check` until it answers something true, and answers that. What it raises for lack of a server counts as not yet."""
    end = time.monotonic() + patience
    value = None
    while True:
        try:
            value = check()
            if value:
                return value
        except (requests.RequestException, subprocess.SubprocessError, OSError) as error:
            value = error
        assert time.monotonic() < end, f"waited {patience} s in vain for {what}; last: {value!r}"
        time.sleep(0.05)


# Ports of which somebody may make use later: a node binds its own only once it has read the database.
GIVEN = set()


def free_port():
    """Below those that the system gives to outgoing connections: one of them could take the port of a node that is down. Each one once."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        last = int(file.read().split()[0])
    while True:
        port = random.randrange(10000, last if last >= 12000 else 32768)
        if port in GIVEN:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                GIVEN.add(port)
                return port
            except OSError:
                continue


def children(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]
    return []


class Program:
    """A process with its output in a file."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.log = os.path.join(folder, name + ".log")
        self.process = None

    def spawn(self, command, environment=None, user=None, on_death="KILL"):
        assert not self.is_running
        change = ["--reuid=" + user, "--regid=" + user, "--clear-groups"] if user else []
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", *change, "--pdeathsig=" + on_death, *command],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.is_running:
            self.process.send_signal(number)

    def wait(self, patience=PATIENCE):
        return self.process.wait(timeout=patience)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def stop(self, patience=60):
        self.signal(signal.SIGTERM)
        self.resume()
        return self.wait(patience)

    def end(self):
        if self.is_running:
            self.kill()

    def tail(self, lines=15):
        with contextlib.suppress(OSError), open(self.log, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
        return ""


class Postgres(Program):
    """Durable as in production. A second one made with `of` is its streaming replica."""

    programs = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    # Postgres does not run as root.
    user = "postgres" if os.geteuid() == 0 else None

    def __init__(self, folder, name="postgres", of=None, settings=None):
        super().__init__(name, folder)
        self.port, self.settings = free_port(), settings or {}
        self.home = os.path.join(folder, name)
        os.mkdir(self.home)
        if self.user:
            owner = pwd.getpwnam(self.user)
            os.chown(self.home, owner.pw_uid, owner.pw_gid)
        self.data = os.path.join(self.home, "data")
        if of is None:
            self._run("initdb", "--pgdata", self.data, "--username=carillon", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        else:
            self._run(
                "pg_basebackup", "--pgdata", self.data, "--host=127.0.0.1", f"--port={of.port}", "--username=carillon", "--write-recovery-conf",
                "--wal-method=stream", "--checkpoint=fast", "--no-sync")
        self.start()

    def _run(self, program, *arguments):
        change = ["setpriv", "--reuid=" + self.user, "--regid=" + self.user, "--clear-groups"] if self.user else []
        done = subprocess.run(
            [*change, f"{self.programs}/{program}", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, cwd="/")
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self):
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "on", "full_page_writes": "on",
            "synchronous_commit": "on", "max_connections": 100, "wal_keep_size": "256MB", "hot_standby": "on", "timezone": "UTC",
            "wal_receiver_status_interval": "1s", "wal_retrieve_retry_interval": "200ms",
        } | self.settings  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.spawn([f"{self.programs}/postgres", "-D", self.data, *options], user=self.user, on_death="QUIT")
        until(lambda: self.sql("SELECT 1") == "1", f"{self.name} to start")

    def sql(self, text, database="postgres"):
        environment = os.environ | {"PGCONNECT_TIMEOUT": "5"}
        return subprocess.run(
            [f"{self.programs}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "carillon",
             "-d", database, "-c", text], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
        ).stdout.strip()  # fmt: skip

    def stop(self, mode="fast"):
        self.signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        return self.wait(60)

    def kill(self):
        """SIGKILL to all of it at once."""
        if not self.is_running:
            return
        # A stopped parent makes no more children, so that the list is complete.
        self.pause()
        for pid in [*children(self.pid), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()

    def end(self):
        self.kill()

    def promote(self):
        self.sql("SELECT pg_promote(true, 60)")
        until(lambda: self.sql("SELECT pg_is_in_recovery()") == "f", "the promotion")

    def cut_from_primary(self):
        """It receives nothing more, so that it lacks what is committed from now on."""
        self.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.sql("SELECT pg_reload_conf()")
        until(lambda: self.sql("SELECT count(*) FROM pg_stat_wal_receiver") == "0", "the replica to be cut off")


class Redis(Program):
    def __init__(self, folder, *options, name="redis"):
        super().__init__(name, folder)
        self.port = free_port()
        self.home = os.path.join(folder, name)
        os.mkdir(self.home)
        self.start(*options)

    def start(self, *options, wait=True):
        self.spawn([
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.home, "--daemonize", "no", "--save", "",
            "--appendonly", "no", *options])  # fmt: skip
        if wait:
            until(lambda: self.cli("PING") == "PONG", "Redis to start")

    def cli(self, *words):
        return subprocess.run(
            ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
            check=True).stdout.strip()  # fmt: skip

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"


class Node(Program):
    def __init__(self, world, name, role, settings, binary=None):
        super().__init__(name, world.folder)
        self.world, self.role, self.binary = world, role, binary or world.binary
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings
        self.start()

    def start(self):
        environment = self.world.environment | {"CARILLON_NODE_NAME": self.name, "CARILLON_PORT": str(self.port)} | self.settings
        self.spawn([self.binary, "serve", "--roles", self.role], environment)

    def health(self):
        answer = requests.get(self.url + "/health/ready", timeout=PATIENCE)
        return answer.status_code, answer.json()

    def is_whole(self):
        status, body = self.health()
        return status == 200 and body["status"] == "ready" and body["postgres"] and body["redis"]

    def leaks(self):
        """Lines of its log that say what they must not."""
        with open(self.log, errors="replace") as file:
            return [line for line in file if LEAKS.search(line)]

    def metrics(self):
        values = {}
        for line in requests.get(self.url + "/metrics", timeout=PATIENCE).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class World:
    """A small cluster of a test's own, without a load balancer. Used by `with`; what a failed test leaves behind is printed."""

    def __init__(self, apis=1, edges=1, workers=0, replica=False, settings=None, edge_settings=None, redis=Redis):
        self.make_redis = redis
        self.shape = (apis, edges, workers)
        self.with_replica, self.settings, self.edge_settings = replica, settings or {}, edge_settings or {}
        self.programs = []

    def __enter__(self):
        raise_descriptor_limit()
        self.folder = tempfile.mkdtemp(prefix="carillon-servers-")
        os.chmod(self.folder, 0o711)
        try:
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _begin(self):
        self.binary = os.environ["CARILLON_BIN"]
        self.postgres = self._keep(self.make_postgres(self.folder))
        self.redis = self.make_redis(self.folder)
        for program in getattr(self.redis, "programs", [self.redis]):
            self._keep(program)
        self.postgres.sql("CREATE DATABASE carillon")
        hosts = [self.postgres.port]
        self.replica = None
        if self.with_replica:
            self.replica = self._keep(Postgres(self.folder, "replica", of=self.postgres))
            hosts.append(self.replica.port)
            until(lambda: self.postgres.sql("SELECT state FROM pg_stat_replication") == "streaming", "the replica to stream")
        places = ",".join(f"127.0.0.1:{port}" for port in hosts)
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("CARILLON_")} | {
            "CARILLON_HOST": "127.0.0.1", "CARILLON_DATABASE_URL": self.database_url(places),
            "CARILLON_REDIS_URL": self.redis.url, "CARILLON_JWT_SECRET": SECRET, "CARILLON_LOG_LEVEL": "info",
            # There is nobody whom a large job should spare.
            "CARILLON_JOB_REST": "0",
        } | self.settings  # fmt: skip
        self.carillon("migrate")
        self.key = self.carillon("apikey", "create", "--name", "tests", "--scopes", "notify")
        apis, edges, workers = self.shape
        self.apis = [self._keep(Node(self, f"api-{number + 1}", "api", self.settings_of("api"))) for number in range(apis)]
        self.edges = [self._keep(Node(self, f"edge-{number + 1}", "edge", self.settings_of("edge"))) for number in range(edges)]
        self.workers = [self._keep(Node(self, f"worker-{number + 1}", "worker", self.settings_of("worker"))) for number in range(workers)]
        self.wait_until_whole()

    def make_postgres(self, folder):
        return Postgres(folder)

    def database_url(self, places):
        """What the nodes and commands reach the database by, whose servers are at these places."""
        return f"postgresql://carillon@{places}/carillon?target_session_attrs=read-write"

    def settings_of(self, role):
        return self.edge_settings if role == "edge" else {}

    def _keep(self, program):
        self.programs.append(program)
        return program

    def __exit__(self, kind, error, trace):
        if kind is not None:
            for program in self.programs:
                print(f"--- the end of {program.name}'s log\n{program.tail()}")
        for program in reversed(self.programs):
            program.end()
        leaks = {} if kind is not None else {node.name: found for node in self.nodes if (found := node.leaks())}
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not leaks, f"secrets in logs: {leaks}"

    @property
    def nodes(self):
        return [*self.apis, *self.edges, *self.workers]

    def wait_until_whole(self, patience=60):
        for node in self.nodes:
            until(node.is_whole, f"{node.name} to be ready", patience)
        # A node is of use before each of its connections is up: which one writes depends on the user.
        for api in range(len(self.apis)):
            for number in range(24):
                until(lambda api=api, number=number: self.publish(f"probe-{number}", api).status_code == 201, f"api-{api + 1} to write", patience)

    def carillon(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd="/")
        assert done.returncode == 0, f"carillon {arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    # --- Users

    @staticmethod
    def user(prefix="user"):
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    @staticmethod
    def token(user):
        now = int(time.time())
        return forged({"sub": user, "iat": now - 5, "exp": now + 3600}, secret=SECRET.encode())

    def stream(self, user, edge=0, last=None, headers=None):
        return Stream(self.token(user), self.edges[edge].url, last=last, headers=headers)

    def stream_when_possible(self, user, edge=0, last=None, patience=60):
        """As a client does that is closed as long as the edge cannot read: again until it is let in. The stream, and its `ready`."""

        def attempt():
            stream = self.stream(user, edge, last)
            first = stream.next()
            if first is not None and first.name == "ready":
                return stream, first
            stream.close()
            assert first is None or (first.name, first.data) == ("close", {"reason": "disconnected"}), first
            return None

        return until(attempt, "a stream to be let in", patience)

    def publish(self, users, api=0, headers=None, **fields):
        """Asks for a notification, and answers what is answered."""
        users = [users] if isinstance(users, str) else users
        return requests.post(
            self.apis[api].url + "/v1/internal/notify", headers=bearer(self.key) | (headers or {}), timeout=PATIENCE,
            data=json.dumps({"title": "hello", "user_ids": users} | fields))  # fmt: skip

    def notify(self, users, api=0, **fields):
        """A notification that must succeed: what was made of it, for one user or for each of a list."""
        answer = self.publish(users, api, **fields)
        assert answer.status_code == 201, f"{answer.status_code}: {answer.text}"
        made = answer.json()["notifications"]
        return made[0] if isinstance(users, str) else made

    def notify_when_possible(self, user, patience=60, **fields):
        """As an application does that gets 503: again until it is accepted."""

        def attempt():
            answer = self.publish(user, **fields)
            assert answer.status_code in (201, 503), f"{answer.status_code}: {answer.text}"
            return answer.status_code == 201 and answer.json()["notifications"][0]

        return until(attempt, "a write to be accepted", patience)

    def get(self, user, path="", api=0, **parameters):
        answer = requests.get(
            self.apis[api].url + "/v1/notifications" + path, headers=bearer(self.token(user)), params=parameters, timeout=PATIENCE)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return answer.json()

    def inbox(self, user, api=0):
        """All of the list, newest first."""
        found, after = [], None
        while True:
            page = self.get(user, api=api, limit=200, order="newest", **({"after": after} if after else {}))
            found += page["data"]
            after = page["page"]["next"]
            if after is None:
                return found
