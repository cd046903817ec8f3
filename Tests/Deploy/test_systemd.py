"""The units, judged by systemd's own programs."""

import os
import re
import shutil
import tempfile

import pytest

from places import DEPLOY, run

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def installed():
    """The units in a folder of their own, with the program in its place: a copy says its path, since systemd looks whether it is there."""
    with tempfile.TemporaryDirectory(prefix="carillon-units-") as folder:
        for unit in UNITS:
            text = unit.read_text()
            assert "/opt/carillon/carillon " in text
            with open(os.path.join(folder, unit.name), "w") as file:
                file.write(text.replace("/opt/carillon/carillon", os.environ["CARILLON_BIN"]).replace("file:/opt/carillon", f"file:{DEPLOY.parent}"))
        yield folder


def test_there_are_units():
    assert [unit.name for unit in UNITS] == ["carillon-migrate.service", "carillon@.service"]


@pytest.mark.parametrize("name", ["carillon@api.service", "carillon@edge.service", "carillon@worker.service", "carillon-migrate.service"])
def test_systemd_finds_no_fault(installed, name):
    template = re.sub("@.*[.]", "@.", name)
    if template != name:
        shutil.copyfile(os.path.join(installed, template), os.path.join(installed, name))
    assert run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", os.path.join(installed, name)) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_broken_in_program_could_do_is_little(unit):
    # Of 100, the less the better; a unit without any of it has 96.
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit)


def test_a_node_has_time_to_drain_and_comes_back():
    text = (DEPLOY / "systemd/carillon@.service").read_text()
    values = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    assert int(values["TimeoutStopSec"]) >= 40 and values["Restart"] == "always" and values["KillSignal"] == "SIGTERM"
    assert values["ExecReload"] == "/bin/kill -HUP $MAINPID" and int(values["LimitNOFILE"]) >= 1_000_000
