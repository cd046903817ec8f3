"""The load generator."""

import json
import os
import subprocess
from pathlib import Path

from measuring import Failed
from measuring.cluster import ROOT


def binary():
    """LOADTEST_BIN, else what lies beside CARILLON_BIN, else what `deploy/local up` has built."""
    if os.environ.get("LOADTEST_BIN"):
        return os.environ["LOADTEST_BIN"]
    if os.environ.get("CARILLON_BIN"):
        return str(Path(os.environ["CARILLON_BIN"]).resolve().parent / "carillon-loadtest")
    folder = subprocess.run(["swift", "build", "-c", "release", "--show-bin-path"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return f"{folder}/carillon-loadtest"


class Tool:
    """Runs of the load generator, with their reports in a folder."""

    def __init__(self, folder):
        self.program, self.folder, self.runs = binary(), Path(folder), 0

    def __call__(self, verb, *options, pids=None, seconds=600):
        """The report of a run. One that saw something wrong is still a result; one without a report is not."""
        self.runs += 1
        path = self.folder / f"{self.runs}.json"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARILLON_")}
        environment["CARILLON_PIDS"] = " ".join(f"{name}={pid}" for name, pid in (pids or {}).items())
        try:
            done = subprocess.run([self.program, verb, *map(str, options), "--json", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds, env=environment)
        except subprocess.TimeoutExpired:
            raise Failed(f"the load generator has not ended after {seconds} s")
        if not path.exists():
            raise Failed("the load generator gave no report: " + " ".join(done.stdout.split()[-40:]))
        return json.loads(path.read_text())


def wrong(report):
    """How much of a run was not as it should be: lost, doubled, reordered and so on, requests failed, streams refused."""
    counts = {name: count for name, count in report["correctness"].items() if name not in ("unread_unchecked", "users_compared", "inboxes_compared")}
    if "errors" in report:
        counts |= report["errors"]["requests"] | report["connect"]["refused"]
        counts |= {name: report["errors"][name] for name in ("overrun", "skipped", "disconnected")}
    else:
        counts |= report["request_errors"] | report["refused"]
    return {name: count for name, count in counts.items() if count}
