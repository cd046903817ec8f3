"""Nodes that cannot start yet, or at all."""

import json
import uuid

import pytest

from servers import Node, World, until


@pytest.fixture(scope="module")
def world():
    with World() as world:
        yield world


@pytest.fixture
def extra(world):
    """One more node of a role, and ended after the test."""
    nodes = []

    def make(role, **settings):
        nodes.append(Node(world, f"extra-{uuid.uuid4().hex[:8]}", role, settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.end()


def logged(node):
    with open(node.log) as file:
        return [json.loads(line)["message"] for line in file if line.startswith("{")]


@pytest.mark.parametrize("role", ["api", "edge", "worker"])
def test_a_node_that_waits_for_postgres_stops_when_it_is_told_to(world, extra, role):
    node = extra(role, CARILLON_DATABASE_URL="postgresql://carillon@127.0.0.1:1/carillon")
    until(lambda: "waiting for the database" in logged(node), "the node to wait")
    assert node.stop(patience=5) == 0
    assert logged(node)[-1] == "node stopped"


@pytest.mark.parametrize("role", ["api", "edge", "worker"])
def test_a_node_whose_port_is_taken_says_so_and_ends_in_order(world, extra, role):
    node = extra(role, CARILLON_PORT=str(world.apis[0].port))
    assert node.wait() not in (0, None)
    assert "node stopped" in logged(node)
    assert "ddress already in use" in node.tail()
    assert world.apis[0].is_whole()
