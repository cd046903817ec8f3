"""Direct events, each for one user: API node, Redis, edge. Beside nchan with Redis, which does the same: the same client, streams and schedule."""

from fan_out.bench import merged
from fan_out.row import Row
from measuring.beside import Nchan
from measuring.tool import wrong


# Of what holds for a few seconds so much holds for longer.
FULL = 0.85


def steady(bench, options, pids):
    return bench.run(options, pids, bench.sizes.streams, "direct", bench.sizes.direct_rate, bench.sizes.direct_seconds)


def full(bench, options, pids):
    """The most that held, and a report of nearly as much: both cores are full."""
    sizes = bench.sizes
    most, _ = bench.most(options, pids, sizes.streams, "direct", sizes.most_direct)
    return most, bench.run(options, pids, sizes.streams, "direct", FULL * most, sizes.direct_seconds)


def middle(reports):
    """The one whose p99 is in the middle."""
    return sorted(reports, key=lambda report: report["latency"]["publish_to_receipt"]["p99"])[len(reports) // 2]


def direct(bench):
    sizes = bench.sizes
    options = bench.carillon("direct-", sizes.streams)
    with Nchan("distributed") as server:
        # In turns: the machine is faster at one time than at another.
        turns = [(steady(bench, options, bench.pids), steady(bench, server.options, server.pids)) for _ in range(sizes.turns)]
        rival_most, rival_full = full(bench, server.options, server.pids)
    most, ours_full = full(bench, options, bench.pids)
    with Nchan("nostore") as server:
        other_most, other_full = full(bench, server.options, server.pids)
    ours, rival = (middle(reports) for reports in zip(*turns))
    bad = merged(*(wrong(report) for report, _ in turns))
    cpu, rival_cpu, other_cpu = (report["server_cpu_per_event"] for report in (ours_full, rival_full, other_full))
    latency, rival_latency = (report["latency"]["publish_to_receipt"] for report in (ours, rival))
    opening, rival_opening = (report["server_cpu_per_connection"] for report in (ours, rival))
    each = {name: seconds * 1e6 / ours_full["throughput"]["received"] for name, seconds in ours_full["server_cpu"].items()}
    return [
        Row("direct-cpu", f"direct events, one user each: CPU of all servers for each with both cores full, at {FULL:.0%} of the most of each, {sizes.streams:,} streams",
            "≤ half of nchan with Redis", cpu, "µs", {"to nchan": cpu / rival_cpu, "to nchan that stores nothing": cpu / other_cpu}, cpu <= 0.5 * rival_cpu,
            {"nchan": rival_cpu, "nchan that stores nothing": other_cpu, f"at {sizes.direct_rate:,.0f}/s": ours["server_cpu_per_event"],
             f"nchan at {sizes.direct_rate:,.0f}/s": rival["server_cpu_per_event"]} | {f"of it {name}": value for name, value in each.items()}, merged(wrong(ours_full), bad)),
        Row("direct-most", f"the same: most a second, p99 under {sizes.p99:.0f} ms, nothing lost, {sizes.streams:,} streams", "≥ 2 × nchan with Redis", most, "/s",
            {"to nchan": most / rival_most, "to nchan that stores nothing": most / other_most}, most >= 2 * rival_most,
            {"nchan": rival_most, "nchan that stores nothing": other_most}),
        Row("direct-latency", f"the same at {sizes.direct_rate:,.0f}/s: p99 from due to receipt, the run in the middle of {sizes.turns} in turns", "p50 and p99 ≤ nchan with Redis", latency["p99"], "ms",
            {"to nchan, p99": latency["p99"] / rival_latency["p99"], "to nchan, p50": latency["p50"] / rival_latency["p50"]},
            latency["p50"] <= rival_latency["p50"] and latency["p99"] <= rival_latency["p99"],
            {"p50": latency["p50"], "nchan p50": rival_latency["p50"], "nchan p99": rival_latency["p99"]}
            # Both are counted from when an event was due: the generator, which shares the cores, may be late itself.
            | {f"{name}the generator late, p99": report["latency"]["tool_lateness"]["p99"] for name, report in (("", ours), ("beside nchan ", rival))}, bad),
        Row("opening", f"{sizes.streams:,} streams opened, authenticated, leased, subscribed: CPU of all servers for each", "≤ 250 µs", opening, "µs",
            {"to the bound": opening / 250}, opening <= 250,
            {"nchan, without those duties": rival_opening, "seconds until all were ready": ours["connect"]["seconds"]}, merged(ours["connect"]["refused"])),
    ]
