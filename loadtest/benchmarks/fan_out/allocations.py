"""Allocations on the way of one notification: a count, and so the same on a busy machine. What each may be stands in allocations.json."""

import json
import shlex
from pathlib import Path

from fan_out.bench import merged
from fan_out.row import Row
from measuring import Failed
from measuring.beside import BENCHMARKS, compiled
from measuring.tool import wrong

NODES = ("edge-1", "api-1")
# What is sent, how many a second, and for how long.
PARTS = {"broadcast": (20, 2), "direct": (100, 2), "notify": (100, 2)}


def allocations(bench):
    cluster, streams = bench.cluster, bench.sizes.allocation_streams
    library = compiled("count-allocations.c", cluster.files, "-shared", "-fPIC")
    program = Path(cluster.state, "binary").read_text().strip()
    wrapper = Path(cluster.files, "counted")
    wrapper.write_text(f'#!/bin/sh\nexport LD_PRELOAD={shlex.quote(str(library))} ALLOCATION_COUNT={cluster.files}/count-"$CARILLON_NODE_NAME"\n'
                       f'exec {shlex.quote(program)} "$@"\n')
    wrapper.chmod(0o755)
    look = Path(cluster.files, "look")
    # What is done a moment after the last event belongs to it.
    look.write_text("set -e\nsleep $2\n" + "".join(f'cp {cluster.files}/count-{node} "{cluster.files}/count-{node}-$1"\n' for node in NODES)
                    + f'date +%s.%N >"{cluster.files}/count-time-$1"\n')
    warm = "".join(f"  - {{publish: {publish}, rate: {rate}, duration: 0.5}}\n" for publish, (rate, _) in PARTS.items())
    # One event, since a part has at least that, and rest; then what is counted; and one to look once more.
    parts = [("direct", 0.5, 2)] + [(publish, rate, seconds) for publish, (rate, seconds) in PARTS.items()] + [("direct", 1, 0.1)]
    phases = Path(cluster.files, "allocations.yaml")
    phases.write_text("phases:\n" + warm + "".join(
        f'  - {{before: "sh {look} {number} {2 if number < 2 else 0.5}", publish: {publish}, rate: {rate}, duration: {seconds}}}\n' for number, (publish, rate, seconds) in enumerate(parts)))
    # They stay as they are: nothing is measured after this.
    for node in NODES:
        cluster.local("stop", node)
        cluster.local("start", node, CARILLON_BIN=str(wrapper))
    cluster.look()
    bounds = json.loads(Path(BENCHMARKS, "allocations.json").read_text())[bench.thresholds]
    figures, bad = counted(bench, phases, parts, streams)
    if set(bounds) != set(figures):
        raise Failed(f"allocations.json has no thresholds for {sorted(set(figures) - set(bounds))}; counted were {figures}")
    if any(figures[name] > bounds[name] for name in bounds):
        # What a node does besides, now and then, is among what is counted: what the events cost is there twice.
        again, more = counted(bench, phases, parts, streams)
        figures, bad = {name: min(count, again[name]) for name, count in figures.items()}, merged(bad, more)
    worst = max(figures[name] / bounds[name] for name in bounds)
    return [Row("allocations", f"allocations of the edge for each delivered event of a broadcast to {streams:,}, beside each event of the other kinds, and each request at the API node",
                f"thresholds of allocations.json ({bench.thresholds})", figures["edge broadcast"], "", {"to the threshold nearest to it": worst}, worst <= 1, figures, bad)]


def counted(bench, phases, parts, streams):
    """For each event, by node and what is published; and what was wrong."""
    files = bench.cluster.files
    report = bench.tool("run", *bench.carillon("count-", streams), "--connections", streams, "--loops", 1, "--publish-connections", 2, "--mix", 0, "--rate", 1,
                        "--duration", 1, "--verify", 0, "--verify-inboxes", 0, "--scenario", phases, pids=bench.pids)
    counts = {node: [int.from_bytes(Path(files, f"count-{node}-{number}").read_bytes(), "little") for number in range(len(parts))] for node in NODES}
    times = [float(Path(files, f"count-time-{number}").read_text()) for number in range(len(parts))]
    figures = {}
    for node in NODES:
        idle = (counts[node][1] - counts[node][0]) / (times[1] - times[0])
        for number, (publish, rate, seconds) in list(enumerate(parts))[1:-1]:
            events = rate * seconds * (streams if publish == "broadcast" and node == "edge-1" else 1)
            made = counts[node][number + 1] - counts[node][number] - idle * (times[number + 1] - times[number])
            figures[f"{node[:-2]} {publish}"] = round(made / events, 3)
    return figures, wrong(report)
