"""The reference of settings is what the program says of itself."""

import os
import re
import subprocess

from places import ROOT


def printed():
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CARILLON_")}
    return subprocess.run([os.environ["CARILLON_BIN"], "settings"], env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/configuration.md").read_text() == printed(), "carillon settings > docs/configuration.md"


def test_every_setting_that_the_sources_read_is_on_it():
    named = set()
    for path in (ROOT / "Sources/carillon").glob("*.swift"):
        named |= set(re.findall(r'settings\.\w+\(\s*"(CARILLON_\w+)"', path.read_text()))
    assert len(named) > 40
    assert named <= set(re.findall(r"^\| `(CARILLON_\w+)`", printed(), re.M))


def test_a_default_and_bounds_are_those_of_the_code():
    assert "| `CARILLON_PING_SECONDS` | 30 | 1–3600 |" in printed()
    assert "| `CARILLON_CONNECTION_LIMIT_MODE` | `evict` | `evict`, `refuse` |" in printed()
