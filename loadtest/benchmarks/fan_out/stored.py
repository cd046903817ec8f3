"""Stored notifications, delivered to open streams, beside pgbench writing the same rows."""

import sys

from fan_out.row import Row
from measuring import Failed, pgbench
from measuring.tool import wrong

CLIENTS = ("-c", 8, "-j", 2)
# Each waits for its commit.
SENDERS = ("--publish-connections", 512)


def by_pgbench(bench, name, script, seconds=None):
    # Its users' heads are there, as those of the streams are.
    bench.cluster.sql(f"INSERT INTO heads (user_id, epoch) SELECT 'bench-' || i, 0 FROM generate_series(0, {bench.sizes.streams - 1}) i ON CONFLICT DO NOTHING")
    at_rest(bench.cluster)
    return pgbench.steady_rate(bench.cluster, name, script, seconds or bench.sizes.pgbench_seconds, *CLIENTS, warm=bench.sizes.pgbench_warm)


def at_rest(cluster):
    """What was written before is on disk, and what it left behind is swept: neither is the next one's burden."""
    for table in ("heads", "notifications", "changes", "audit"):
        cluster.sql(f"VACUUM ANALYZE {table}")
    cluster.sql("CHECKPOINT")


def stored(bench):
    with bench.event_loops(1, "api-1", "edge-1", "worker-1"):
        return [most_stored(bench)]


def most_stored(bench):
    sizes, cluster = bench.sizes, bench.cluster
    function = by_pgbench(bench, "function", pgbench.apply_changes(cluster, "bench-", sizes.streams, 1))
    options = bench.carillon("stored-", sizes.streams)
    at_rest(cluster)
    most, _ = bench.most(options, bench.pids, sizes.streams, "notify", sizes.most_stored, more=SENDERS)
    # pgbench runs as long as what is compared with it, right before and right after: the machine need not be as fast all the time.
    def pgbench_now():
        return by_pgbench(bench, "plain", pgbench.plain("bench-", sizes.streams), max(sizes.stored_seconds, sizes.pgbench_seconds))

    before, factor = pgbench_now(), 1.04
    for _ in range(14):
        rate = factor * before if sizes.factors else most
        at_rest(cluster)
        report = bench.run(options, bench.pids, sizes.streams, "notify", rate, sizes.stored_seconds, *SENDERS)
        after = pgbench_now()
        delivered, p99 = report["throughput"]["received_per_second"], report["latency"]["publish_to_receipt"]["p99"]
        found = f"{rate:.0f}/s: {delivered:.0f}/s, p99 {p99:.0f} ms, {report['server_cpu_per_event']:.0f} µs, {wrong(report)}; pgbench before {before:.0f}/s, after {after:.0f}/s"
        if sizes.factors and not 0.9 < after / before < 1.1:
            print(f"the machine changed its speed, and what was found says nothing: {found}", file=sys.stderr)
        elif p99 < sizes.p99 and delivered >= sizes.kept * rate and not wrong(report):
            break
        else:
            print(f"did not hold: {found}", file=sys.stderr)
            factor -= 0.01 if factor > 1 else 0.03
        before = after
    else:
        raise Failed(f"14 tries of {sizes.stored_seconds:.0f} s were too few; the last: {found}")
    plain = max(before, after)
    return Row(
        "stored", f"stored notifications, one user a call, to {sizes.streams:,} streams, one event loop a node: delivered a second for "
        f"{sizes.stored_seconds:.0f} s with p99 under {sizes.p99:.0f} ms, tried from 1.04 of pgbench's rate downwards",
        "≥ pgbench, one such row a transaction", delivered, "/s",
        {"to the faster pgbench": delivered / plain, "to pgbench calling the same function": delivered / function}, delivered >= plain,
        {"pgbench as long right before, head and row in one statement": before, "right after": after, "pgbench calling the same function": function,
         "p99 in ms": p99, "for some seconds": most, "CPU for each, µs": report["server_cpu_per_event"]})


def groups(bench):
    sizes, cluster = bench.sizes, bench.cluster
    function = 100 * by_pgbench(bench, "function", pgbench.apply_changes(cluster, "bench-", sizes.streams, 100))
    options = bench.carillon("group-", sizes.streams)
    at_rest(cluster)
    most, report = bench.most(options, bench.pids, sizes.streams, "notify", sizes.most_groups, group=100, p99=max(1_000, sizes.p99))
    return [Row(
        "stored-groups", f"stored notifications in calls of 100 users, to {sizes.streams:,} streams: most delivered a second, p99 under a second",
        "≥ 60 % of pgbench calling the same function", most, "/s", {"to pgbench": most / function}, most >= 0.6 * function,
        {"pgbench, rows/s": function, "CPU for each, µs": report["server_cpu_per_event"]})]
