"""Health that tells the truth: faults, and what each role's /health/ready is to say of them. Servers of the tests' own."""

import os
import signal
import socket

import pytest
import requests

from carillon import PATIENCE, Stream
from servers import Node, World, children, until


class Fault:
    """What is broken, and how it is mended."""

    def __init__(self, begin, end):
        self.begin, self.end = begin, end


def nothing(world):
    pass


def start(program):
    program.start()


def redis_replica(world):
    world.redis.cli("REPLICAOF", "127.0.0.1", "1")


def redis_primary(world):
    world.redis.cli("REPLICAOF", "NO", "ONE")


def each(*steps):
    def all_of_them(world):
        for step in steps:
            step(world)

    return all_of_them


def freeze_postgres(world):
    """With its sessions, each of which is a process."""
    world.postgres.pause()
    world.frozen = children(world.postgres.pid)
    for pid in world.frozen:
        os.kill(pid, signal.SIGSTOP)


def thaw_postgres(world):
    for pid in world.frozen:
        os.kill(pid, signal.SIGCONT)
    world.postgres.resume()


def read_only(world, word):
    world.postgres.sql(f"ALTER SYSTEM SET default_transaction_read_only = {word}")
    world.postgres.sql("SELECT pg_reload_conf()")


FAULTS = {
    "nothing": Fault(nothing, nothing),
    "Redis is gone": Fault(lambda world: world.redis.kill(), lambda world: start(world.redis)),
    "Redis hangs": Fault(lambda world: world.redis.pause(), lambda world: world.redis.resume()),
    "Redis takes no writes": Fault(redis_replica, redis_primary),
    "Redis forgets all": Fault(lambda world: world.redis.cli("FLUSHALL"), nothing),
    "Redis cuts its connections": Fault(lambda world: world.redis.cli("CLIENT", "KILL", "TYPE", "normal"), nothing),
    "Postgres is gone": Fault(lambda world: world.postgres.kill(), lambda world: start(world.postgres)),
    "Postgres hangs": Fault(freeze_postgres, thaw_postgres),
    "Postgres takes no writes": Fault(lambda world: read_only(world, "on"), lambda world: read_only(world, "off")),
    "Postgres restarts": Fault(each(lambda world: world.postgres.stop(), lambda world: start(world.postgres)), nothing),
    "Postgres ends its sessions": Fault(
        lambda world: world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'carillon'"), nothing),
    "both are gone": Fault(
        each(lambda world: world.redis.kill(), lambda world: world.postgres.kill()),
        each(lambda world: start(world.redis), lambda world: start(world.postgres))),
}  # fmt: skip

# Status, word, Postgres, Redis, for nodes of every role.
WHOLE = (200, "ready", True, True)
NO_REDIS = (200, "degraded", True, False)
NO_POSTGRES = (200, "degraded", False, True)
NEITHER = (503, "no server within reach", False, False)
EXPECTED = {
    "nothing": WHOLE,
    "Redis is gone": NO_REDIS,
    "Redis hangs": NO_REDIS,
    "Redis takes no writes": NO_REDIS,
    "Redis forgets all": WHOLE,
    "Redis cuts its connections": WHOLE,
    "Postgres is gone": NO_POSTGRES,
    "Postgres hangs": NO_POSTGRES,
    # An edge only reads.
    "Postgres takes no writes": {"api": NO_POSTGRES, "edge": WHOLE, "worker": NO_POSTGRES},
    "Postgres restarts": WHOLE,
    "Postgres ends its sessions": WHOLE,
    "both are gone": NEITHER,
}


def says(node):
    status, body = node.health()
    return status, body["status"], body["postgres"], body["redis"]


@pytest.fixture(scope="module")
def world():
    with World(apis=1, edges=1, workers=1) as world:
        yield world


@pytest.mark.parametrize("fault", FAULTS)
def test_each_role_says_what_it_lacks_and_that_it_is_whole_again(world, fault):
    world.wait_until_whole()
    FAULTS[fault].begin(world)
    try:
        for node in world.nodes:
            expected = EXPECTED[fault]
            if isinstance(expected, dict):
                expected = expected[node.role]
            until(lambda node=node, expected=expected: says(node) == expected, f"{node.name} to say {expected}; it says {says(node)}", 30)
            # It lives, whatever it lacks: to restart it would mend nothing.
            assert requests.get(node.url + "/health/live", timeout=PATIENCE).status_code == 200
            status, _, postgres, redis = expected

            def measures(node=node):
                values = node.metrics()
                return [values["carillon_" + name] for name in ("ready", "draining", "postgres_available", "redis_available")]

            # A subscription may be lost before the connection that commands take, and the other way round.
            until(lambda: measures() == [status == 200, 0, postgres, redis], f"the metrics of {node.name} to say the same; they say {measures()}", 30)
    finally:
        FAULTS[fault].end(world)
    world.wait_until_whole()


def test_a_node_that_drains_is_not_ready_while_it_lives(world):
    """An edge with an open stream takes its time, in which it still answers."""
    edge = Node(world, "edge-draining", "edge", {"CARILLON_DRAIN_SECONDS": "3600"})
    world.programs.append(edge)
    until(edge.is_whole, "the edge to be ready", 30)
    streams = []
    for _ in range(3):
        stream = Stream(world.token(world.user()), edge.url)
        stream.expect("ready")
        streams.append(stream)
    edge.signal(signal.SIGTERM)
    until(lambda: says(edge)[:2] == (503, "draining"), "the edge to say that it drains", 30)
    assert requests.get(edge.url + "/health/live", timeout=PATIENCE).status_code == 200
    assert edge.metrics()["carillon_draining"] == 1 and edge.metrics()["carillon_ready"] == 0
    edge.kill()
    for stream in streams:
        stream.close()


def test_a_node_is_not_ready_before_it_has_a_database_and_becomes_so_by_itself():
    with World(apis=1, edges=0) as world:
        world.apis[0].stop()
        world.postgres.stop()
        world.apis[0].start()
        until(lambda: "waiting for the database" in world.apis[0].tail(), "the node to wait", 30)
        with pytest.raises(requests.ConnectionError):
            world.apis[0].health()
        world.postgres.start()
        until(world.apis[0].is_whole, "the node to be ready", 30)


def test_a_node_that_begins_without_redis_says_so_and_serves():
    with World(apis=1, edges=0) as world:
        world.apis[0].stop()
        world.redis.kill()
        world.apis[0].start()
        until(lambda: says(world.apis[0]) == NO_REDIS, "the node to be of use without Redis", 30)
        assert world.publish(world.user()).status_code == 201
        world.redis.start()
        until(world.apis[0].is_whole, "the node to find Redis", 30)


def test_a_node_with_as_many_connections_as_it_can_hold_is_not_ready():
    """It could take no request of a client either. A hundred places are kept beyond the streams' for requests."""
    with World(apis=1, edges=0, settings={"CARILLON_MAX_CONNECTIONS": "10"}) as world:
        api = world.apis[0]
        held = [socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE) for _ in range(112)]
        try:
            until(lambda: requests.get(api.url + "/health/ready", timeout=PATIENCE).status_code == 503, "the node to be full", 30)
        finally:
            for one in held:
                one.close()
        until(api.is_whole, "the node to have room again", 30)
