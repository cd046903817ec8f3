"""The catalogue's file: a node reads it again at SIGHUP, and keeps the old one when the new one is wrong."""

import json
import os
import signal
import subprocess

import pytest

from carillon import problem
from servers import World, until

FIRST = """
types:
  order:
    events:
      shipped: {title: Order shipped}
"""

SECOND = """
types:
  order:
    events:
      shipped:
        templates:
          default:
            title: "Order {{number}} shipped"
            content: |
              {{#items}}
              {{count}} of {{name}}
              {{/items}}
            link_url: "/orders/{{number}}"
          fr: {title: "Commande {{number}} expédiée"}
      paid: {title: Order paid, level: SUCCESS}
"""

WRONG = """
types:
  order:
    title: 5
    events:
      shipped: {title: Order gone, channels: [pigeon]}
  order: {}
"""


class File:
    def __init__(self, folder):
        self.path = str(folder / "catalogue.yaml")
        self.write(FIRST)

    def write(self, text):
        with open(self.path + ".new", "w") as file:
            file.write(text)
        os.replace(self.path + ".new", self.path)


@pytest.fixture
def file(tmp_path):
    return File(tmp_path)


def counts(node):
    metrics = node.metrics()
    return metrics["carillon_catalogue_reloads_total"], metrics["carillon_catalogue_reload_failures_total"]


def hang_up(node, reloads, failures):
    node.signal(signal.SIGHUP)
    until(lambda: counts(node) == (reloads, failures), f"{node.name} to read the catalogue again")


def logged(node, message):
    with open(node.log, errors="replace") as log:
        entries = [json.loads(line) for line in log if line.startswith("{")]
    return [entry for entry in entries if entry["message"].startswith(message)]


def test_a_node_takes_a_new_catalogue_at_sighup_and_keeps_the_old_one_when_it_is_wrong(file):
    with World(settings={"CARILLON_CATALOGUE": file.path}) as world:
        api, edge = world.apis[0], world.edges[0]
        user = world.user()
        order = {"type": "order", "event": "shipped", "title": None}
        with world.stream(user) as stream:
            stream.expect("ready")
            assert counts(api) == (0, 0)
            problem(world.publish(user, type="order", event="paid", title=None), 422, "invalid_event")
            world.notify(user, **order, template_data={"number": 7})
            assert stream.expect("message").data["title"] == "Order shipped"

            # A file alone changes nothing.
            file.write(SECOND)
            world.notify(user, **order)
            assert stream.expect("message").data["title"] == "Order shipped"

            hang_up(api, 1, 0)
            world.notify(user, **order, template_data={"number": 7, "items": [{"count": 2, "name": "<cups>"}, {"count": 1, "name": "pots"}]})
            shown = stream.expect("message").data
            assert (shown["title"], shown["content"], shown["link_url"]) == ("Order 7 shipped", "2 of <cups>\n1 of pots", "/orders/7")
            world.notify(user, type="order", event="paid", title=None)
            assert stream.expect("message").data["level"] == "SUCCESS"
            long = problem(world.publish(user, **order, template_data={"number": "9" * 200}), 422, "invalid_body")
            assert {error["pointer"] for error in long["errors"]} == {"/template_data"}
            assert any("title (fr)" in error["detail"] for error in long["errors"])

            # What is wrong is told, all of it, and nothing changes.
            file.write(WRONG)
            hang_up(api, 1, 1)
            error, = logged(api, "catalogue not reloaded")
            assert error["level"] == "error"
            lines = error["errors"].split("\n")
            places = ["4: /types/order/title: ", "6: /types/order/events/shipped/channels/0: ", "7: /types/order: "]
            assert len(lines) == len(places)
            for line, place in zip(lines, places):
                assert line.startswith(f"{file.path}:{place}"), lines
            world.notify(user, **order, template_data={"number": 8})
            assert stream.expect("message").data["title"] == "Order 8 shipped"

            os.remove(file.path)
            hang_up(api, 1, 2)
            file.write(FIRST)
            hang_up(api, 2, 2)
            world.notify(user, **order, template_data={"number": 9})
            assert stream.expect("message").data["title"] == "Order shipped"

            # Many signals, and one to a node with a stream: the last state of the file counts, and nobody notices.
            for _ in range(50):
                api.signal(signal.SIGHUP)
            file.write(SECOND)
            before = counts(api)[0]
            api.signal(signal.SIGHUP)
            until(lambda: counts(api)[0] > before, "the last signal")
            hang_up(edge, 1, 0)
            until(lambda: world.publish(user, type="order", event="paid", title=None).status_code == 201, "the last state of the file")
            assert stream.expect("message").data["title"] == "Order paid"
        assert api.stop() == 0
        assert edge.stop() == 0


def check(world, path):
    done = subprocess.run(
        [world.binary, "check"], env=world.environment | {"CARILLON_CATALOGUE": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, cwd="/")  # fmt: skip
    return done.returncode, done.stdout.splitlines()


def test_check_shows_what_is_in_the_catalogue_and_what_is_wrong_with_it(file):
    with World(edges=0, apis=0) as world:
        file.write(SECOND)
        code, lines = check(world, file.path)
        assert code == 0
        assert "ok      catalogue: 2 types, 2 events, locales default, fr" in lines
        file.write(WRONG)
        code, lines = check(world, file.path)
        assert code == 1
        place = lines.index("FAILED  catalogue:")
        assert [line.split(": ")[0].strip() for line in lines[place + 1:place + 4]] == [f"{file.path}:{line}" for line in (4, 6, 7)]
        # A node does not start with it, and says so in one line.
        done = subprocess.run(
            [world.binary, "serve"], env=world.environment | {"CARILLON_CATALOGUE": file.path, "CARILLON_PORT": "0"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, cwd="/")  # fmt: skip
        assert done.returncode != 0
        told, = [line for line in done.stderr.splitlines() if line]
        assert "CARILLON_CATALOGUE" in told and all(f"{file.path}:{line}: " in told for line in (4, 6, 7))
