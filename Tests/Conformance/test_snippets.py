"""The README's program in Python, as it stands there."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from harness import PATIENCE

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_program_in_python_works(cluster, user):
    [section] = re.findall(r"^### From Python\n(.*?)^### ", README.read_text(), re.M | re.S)
    program = textwrap.dedent("\n".join(line for line in section.split("\n") if line.startswith("    ") or not line))
    assert program.count('"alice"') == 1 and program.count('"booking-7"') == 1
    program = program.replace('"alice"', repr(user.name)).replace('"booking-7"', repr(cluster.unique()))
    environment = {**os.environ, "CARILLON_URL": cluster.url, "CARILLON_API_KEY": cluster.api_key, "TOKEN": user.token, "no_proxy": "*"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "1 ['Booking confirmed']\n1-2 0\n"
    assert user.count()["unread"] == 0
