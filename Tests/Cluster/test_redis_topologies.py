"""Redis Sentinel and Redis Cluster under whole nodes: masters fail over, slots move, and streams notice nothing."""

import subprocess
import threading

from servers import Program, Redis, World, free_port, until


class Sentinels:
    """A master with two replicas, and three sentinels that watch them."""

    def __init__(self, folder):
        self.servers = [Redis(folder, name="redis-0")]
        master = self.servers[0]
        for number in (1, 2):
            self.servers.append(Redis(folder, "--replicaof", "127.0.0.1", str(master.port), name=f"redis-{number}"))
        for replica in self.servers[1:]:
            until(lambda replica=replica: "master_link_status:up" in replica.cli("INFO", "replication"), f"{replica.name} to follow")
        self.sentinels = []
        for number in range(3):
            program, port = Program(f"sentinel-{number}", folder), free_port()
            path = f"{folder}/sentinel-{number}.conf"
            with open(path, "w") as file:
                file.write(f"""port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor main 127.0.0.1 {master.port} 2
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 10000
""")
            program.spawn(["redis-server", path, "--sentinel"])
            program.port = port
            self.sentinels.append(program)
        until(lambda: all("num-other-sentinels\n2" in self.ask(number, "SENTINEL", "master", "main") for number in range(3)), "sentinels to know each other")
        until(lambda: all("num-slaves\n2" in self.ask(number, "SENTINEL", "master", "main") for number in range(3)), "sentinels to know the replicas")

    @property
    def programs(self):
        return [*self.servers, *self.sentinels]

    def ask(self, sentinel, *words):
        return subprocess.run(
            ["redis-cli", "-h", "127.0.0.1", "-p", str(self.sentinels[sentinel].port), *words], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=10, check=True).stdout.strip()

    @property
    def master(self):
        port = int(self.ask(0, "SENTINEL", "get-master-addr-by-name", "main").split()[1])
        return next(server for server in self.servers if server.port == port)

    @property
    def url(self):
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels) + "/main"


class ShardedRedis:
    """Three masters, each with a replica."""

    def __init__(self, folder):
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"]
        self.programs = [
            Redis(folder, *options, "--cluster-port", str(free_port()), "--cluster-config-file", f"{folder}/shard-{number}.conf", name=f"shard-{number}")
            for number in range(6)
        ]
        self.join(*(f"127.0.0.1:{program.port}" for program in self.programs), "--cluster-replicas", "1", verb="create")
        until(lambda: all(program.cli("CLUSTER", "INFO").startswith("cluster_state:ok") for program in self.programs), "the cluster to be whole")
        for program in self.programs:
            until(lambda program=program: "role:master" in (found := program.cli("INFO", "replication")) or "master_link_status:up" in found, "replicas to follow")

    def join(self, *arguments, verb):
        done = subprocess.run(
            ["redis-cli", "--cluster", verb, *arguments, "--cluster-yes"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def masters(self):
        return [program for program in self.programs if program.is_running and "role:master" in program.cli("INFO", "replication")]

    @property
    def url(self):
        return f"redis+cluster://127.0.0.1:{self.programs[0].port},127.0.0.1:{self.programs[1].port}"


class Writer:
    """Notifies the users in turn until it is stopped. Without Redis a write succeeds all the same."""

    def __init__(self, world, users):
        self.made = {user: [] for user in users}
        self._over = threading.Event()
        self.error = None
        self._thread = threading.Thread(target=self._write, args=(world, users), daemon=True)
        self._thread.start()

    def _write(self, world, users):
        try:
            while not self._over.is_set():
                for user in users:
                    self.made[user].append(world.notify(user, api=len(self.made[user]) % len(world.apis)))
                self._over.wait(0.01)
        except BaseException as error:
            self.error = error

    @property
    def rounds(self):
        assert self.error is None, self.error
        return min(len(made) for made in self.made.values())

    def wait_for(self, rounds):
        start = self.rounds
        until(lambda: self.rounds >= start + rounds, f"{rounds} rounds of writes", 60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)


def follow(world, users, disturb):
    """Every stream shows every change once and in order, whatever `disturb` does meanwhile, and is never closed or told to start anew."""
    streams = {user: [world.stream(user, edge) for edge in range(len(world.edges))] for user in users}
    try:
        for opened in streams.values():
            for stream in opened:
                stream.expect("ready")
        with Writer(world, users) as writer:
            writer.wait_for(5)
            disturb(writer)
            writer.wait_for(5)
        assert writer.error is None, writer.error
        for user, opened in streams.items():
            for stream in opened:
                shown = [stream.next(30) for _ in writer.made[user]]
                assert [(event.name, event.data["id"], event.data["seq"]) for event in shown] == [
                    ("message", made["id"], made["seq"]) for made in writer.made[user]]
                assert stream.events.empty()
        # Redis is the way of delivery again: subscribed to the right server, on every node.
        world.wait_until_whole()
        for user in users:
            assert world.get(user, "/count")["unread"] == len(writer.made[user])
    finally:
        for opened in streams.values():
            for stream in opened:
                stream.close()


def published(world):
    return sum(api.metrics()["carillon_published_total"] for api in world.apis)


def settled(world, users):
    """What is published now arrives through Redis again."""

    def step():
        before = sum(edge.metrics()["carillon_redis_messages_total"] for edge in world.edges)
        for user in users:
            world.notify(user)
        return sum(edge.metrics()["carillon_redis_messages_total"] for edge in world.edges) >= before + len(users)

    until(step, "messages through Redis", 30)


def test_sentinel_masters_fail_over_while_streams_are_open():
    with World(apis=2, edges=2, redis=Sentinels) as world:
        users = [world.user() for _ in range(10)]

        def disturb(writer):
            dead = world.redis.master
            dead.kill()
            until(lambda: world.redis.master is not dead, "another master", 60)
            writer.wait_for(5)
            # The second time the old master lives on, with its connections open.
            old = world.redis.master
            until(lambda: "OK" in world.redis.ask(0, "SENTINEL", "failover", "main"), "a failover to begin", 60)
            until(lambda: world.redis.master is not old, "a third master", 60)

        follow(world, users, disturb)
        settled(world, users)


def test_a_cluster_loses_a_master_and_moves_slots_while_streams_are_open():
    with World(apis=2, edges=2, redis=ShardedRedis) as world:
        users = [world.user() for _ in range(30)]

        def disturb(writer):
            masters = world.redis.masters
            ids = [master.cli("CLUSTER", "MYID") for master in masters]
            world.redis.join(
                f"127.0.0.1:{masters[0].port}", "--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", "1000", verb="reshard")
            writer.wait_for(5)
            masters[2].kill()
            until(lambda: len(world.redis.masters) == 3, "the replica to be promoted", 60)

        follow(world, users, disturb)
        settled(world, users)


def test_the_limit_holds_on_a_cluster_of_shards():
    with World(edges=2, redis=ShardedRedis) as world:
        for _ in range(5):
            user = world.user()
            streams = [world.stream(user, number % 2) for number in range(10)]
            try:
                for stream in streams:
                    stream.expect("ready")
                with world.stream(user) as eleventh:
                    eleventh.expect("ready")
                    assert streams[0].expect("close").data["reason"] == "evicted"
                    assert all(stream.events.empty() for stream in streams[1:])
            finally:
                for stream in streams:
                    stream.close()
