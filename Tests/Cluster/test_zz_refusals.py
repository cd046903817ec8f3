"""What the servers of `deploy/local` have refused its nodes by the end of the test: nothing."""

import subprocess
from pathlib import Path

from carillon import STATE


def test_no_node_of_the_whole_test_was_refused_anything():
    """The nodes of `deploy/local` have these rights, too. Redis' record is of its last start, Postgres' of all."""
    port = Path(STATE, "ports", "redis").read_text().strip()
    log = subprocess.run(["redis-cli", "-p", port, "ACL", "LOG"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True).stdout
    assert not log.strip(), log
    assert "permission denied" not in Path(STATE, "logs", "postgres.log").read_text()
    running = subprocess.run(["redis-cli", "-p", port, "CLIENT", "LIST"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True).stdout
    assert {f"user=carillon-{role}" for role in ("api", "edge", "worker")} <= set(running.split())
