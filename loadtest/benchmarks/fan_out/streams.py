"""What streams cost while nothing happens on them, and what it takes to bring many back."""

import re
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

from fan_out.bench import ADDRESSES
from fan_out.row import Row
from measuring import Failed
from measuring.beside import Nchan
from measuring.cluster import LOCAL
from measuring.processes import Watch, cpu
from measuring.tool import wrong


def idle_cluster(bench):
    time.sleep(bench.sizes.settle)
    before, began = cpu(bench.cluster.pids), time.monotonic()
    time.sleep(bench.sizes.idle_seconds)
    elapsed, after = time.monotonic() - began, cpu(bench.cluster.pids)
    shares = {name: (after[name] - before[name]) / elapsed * 100 for name in before}
    total = sum(shares.values())
    return [Row("idle-cluster", f"CPU of an idle cluster without clients over {bench.sizes.idle_seconds:.0f} s: {', '.join(shares)}", "≤ 2 % of a core together", total,
                "% of a core", {"to the bound": total / 2}, total <= 2, shares)]


def idle_streams(bench):
    streams, rest = bench.sizes.idle_streams, bench.sizes.rest
    # A process that has done nothing else.
    bench.cluster.restart("edge-1")
    options = bench.carillon("idle-", streams)
    watched = {name: bench.cluster.pids[name] for name in ("edge-1", "postgres", "redis")}
    with Watch(watched) as watch:
        report = bench.tool("idle", *options, "--connections", streams, "--connect-rate", 20_000, "--rest", rest, "--pid", watched["edge-1"])
        end = time.monotonic()
    if report["ready"] != streams:
        raise Failed(f"{report['ready']} of {streams} streams: {wrong(report)}")
    # Reading memory and closing the streams comes after the rest.
    shares = {name: share * 100 for name, share in watch.share(end - 0.9 * rest - 1, end - 1).items()}
    total = sum(shares.values())
    with Nchan() as server:
        seconds = min(3, rest)
        rival = bench.run(server.options, server.pids, streams, "direct", streams / seconds, seconds, "--warm-up", 0)["server_resident_per_connection"]
    mine = report["resident_per_connection"]
    return [
        Row("memory", f"RSS for each SSE connection: (at {streams:,} − at 0) / {streams:,} on one edge, each having resumed and got one event", "≤ 5 KB", mine, "B",
            {"to the bound": mine / 5000, "to nchan": mine / rival}, mine <= 5000, {"nchan": rival}, wrong(report)),
        Row("idle-streams", f"{streams:,} idle streams: CPU of edge, Postgres and Redis over {0.9 * rest:.0f} s, pings included", "≤ 2 % of a core together", total,
            "% of a core", {"to the bound": total / 2}, total <= 2, shares, wrong(report)),
    ]


def resuming(bench):
    sizes, cluster = bench.sizes, bench.cluster
    streams, log = sizes.streams, Path(cluster.state, "logs", "postgres.log")
    # Statements are counted in Postgres' own log, from just before the streams come back: those that other nodes make meanwhile are among them.
    restart = Path(cluster.files, "restart")
    restart.write_text("\n".join([
        "set -e", f"{shlex.quote(LOCAL)} kill edge-1 --state {cluster.state}", f"{shlex.quote(LOCAL)} start edge-1 --state {cluster.state}",
        f"psql -XqAt {shlex.quote(cluster.env['CARILLON_DATABASE_URL'])} -c \"ALTER SYSTEM SET log_parameter_max_length = 0\" "
        "-c \"ALTER SYSTEM SET log_statement = 'all'\" -c 'SELECT pg_reload_conf()' >/dev/null",
        # Every backend reads it when it next has something to do.
        "sleep 0.3", f"stat -c %s {shlex.quote(str(log))} >{cluster.files}/log-from"]) + "\n")
    group, seconds = min(100, streams // 2), 8 if sizes.seconds >= 5 else 1
    phases = Path(cluster.files, "resuming.yaml")
    phases.write_text(f"""phases:
  - {{connections: {streams}, group: {group}, rate: {streams}, duration: 1}}
  - {{connections: 1, group: {group}, rate: {streams * sizes.behind / seconds}, duration: {seconds}}}
  - {{connections: {streams}, before: "bash {restart}", rate: 1, duration: 0.01}}
""")
    try:
        # They come back as they do where nothing holds them up: all at once, but for what a listening socket takes.
        report = bench.tool("run", *bench.carillon("resume-", streams), "--connections", streams, "--loops", 1, "--connect-rate", 100_000, "--opening-at-once", 2_000, "--mix", 0, "--rate", 1,
                            "--duration", 1, "--verify", 0, "--verify-inboxes", 0, "--settle", 1, "--scenario", phases, pids=bench.pids)
    finally:
        cluster.sql("ALTER SYSTEM RESET log_statement")
        cluster.sql("SELECT pg_reload_conf()")
        cluster.look()
    opening = report["phases"][2]["opening"]
    if opening["caught_up"] is None:
        raise Failed(f"not all streams caught up: {wrong(report)}")
    with open(log, "rb") as file:
        file.seek(int(Path(cluster.files, "log-from").read_text()))
        lines = file.read().decode(errors="replace").splitlines()
    statements = [line for line in lines if "LOG:  statement: " in line or "LOG:  execute " in line]
    statements = [line for line in statements if "ALTER SYSTEM" not in line and "pg_reload_conf" not in line]
    texts = Counter(re.sub(r".*LOG:  (statement|execute [^:]*): ", "", line)[:100] for line in statements)
    print("\n".join(f"  {count} × {text}" for text, count in texts.most_common(8)), file=sys.stderr)
    bad = {name: count for name, count in wrong(report).items() if name not in ("disconnected", "connect failed", "closed before ready")}
    if report["throughput"]["received"] < opening["streams"] * sizes.behind:
        bad["events missing"] = opening["streams"] * sizes.behind - report["throughput"]["received"]
    return [Row(
        "resuming", f"{opening['streams']:,} streams resumed after the edge was killed and started again, each {sizes.behind} changes behind: until all had shown them",
        "≤ 3 s, ≤ 100 SQL statements", opening["caught_up"], "s", {"to the bound": opening["caught_up"] / 3, "statements to the bound": len(statements) / 100},
        opening["caught_up"] <= 3 and len(statements) <= 100, {"SQL statements of all nodes meanwhile": len(statements), "seconds until all were ready": opening["ready"]}, bad)]


def many_edges(bench):
    sizes, cluster = bench.sizes, bench.cluster
    streams = sizes.edges * sizes.edge_streams
    cluster.up("--edges", str(sizes.edges))
    try:
        edges = {name: pid for name, pid in cluster.pids.items() if name.startswith("edge-")}
        report = bench.run(bench.carillon("many-", streams), edges, streams, "broadcast", sizes.event_rate / streams, sizes.seconds,
                           "--processes", sizes.edges, "--sources", ADDRESSES, "--connect-timeout", 180)
    finally:
        cluster.up("--edges", "1")
        cluster.local("stop", "haproxy")
        cluster.look()
    ready = report["connect"]["ready"]
    return [Row("many-edges", f"streams on {sizes.edges} edge processes beside each other, directly", f"{streams:,}", ready, "streams", {"to the bound": ready / streams},
                ready == streams, {"CPU of the edges for each event, µs": report["server_cpu_per_event"],
                                   "RSS of the edges for each stream": report["server_resident_per_connection"],
                                   "seconds until all were ready": report["connect"]["seconds"], "p99 in ms": report["latency"]["publish_to_receipt"]["p99"]}, wrong(report))]


def churn(bench):
    sizes, cluster = bench.sizes, bench.cluster
    streams = min(sizes.churn_streams, sizes.connects)
    cycles = -(-sizes.connects // streams)
    cluster.restart("edge-1")
    # Ten events on each stream of each cycle. Memory is looked at when all have been shown, and again when the streams are gone.
    rate = sizes.event_rate / streams
    seen = Path(cluster.files, "resident")
    look = Path(cluster.files, "look-at-resident")
    look.write_text(f"awk -v what=$1 '/^VmRSS/ {{ print what, $2 }}' /proc/{cluster.pids['edge-1']}/status >>{seen}\n")
    phases = Path(cluster.files, "churn.yaml")
    phases.write_text("phases:\n" + cycles * (
        f'  - {{before: "sh {look} few", connections: {streams}, publish: broadcast, rate: {rate}, duration: {10 / rate}}}\n'
        f'  - {{before: "sh {look} all", connections: 1, publish: broadcast, rate: 1, duration: 0.5}}\n'))
    began = time.monotonic()
    report = bench.tool("run", *bench.carillon("churn-", streams), "--connections", streams, "--loops", 1, "--connect-rate", 20_000, "--mix", 0, "--rate", 1,
                        "--duration", 1, "--verify", 0, "--verify-inboxes", 0, "--sources", ADDRESSES, "--scenario", phases, pids=bench.pids, seconds=7_200)
    elapsed = time.monotonic() - began
    lines = [line.split() for line in seen.read_text().splitlines()]
    peaks, rests = ([int(kilobytes) * 1024 for what, kilobytes in lines if what == wanted] for wanted in ("all", "few"))
    last, most = peaks[-1], max(peaks)
    return [Row("churn", f"RSS of the edge after {cycles * streams:,} connects and disconnects and {report['throughput']['received']:,} events ({elapsed:.0f} s)",
                "within 10 % of the first peak", last / 1e6, "MB", {"to the first peak": last / peaks[0]}, most <= 1.1 * peaks[0],
                {"first peak, MB": peaks[0] / 1e6, "highest peak, MB": most / 1e6, "without streams at first, MB": rests[0] / 1e6,
                 "between the last two, MB": rests[-1] / 1e6, "cycles": len(peaks)}, wrong(report))]
