"""Direct events, each for one user: API node, Redis, edge. Beside nchan with Redis, which does the same: the same client, streams and schedule."""

from fan_out.bench import merged
from fan_out.row import Row
from measuring.beside import Nchan
from measuring.tool import wrong


def measure(bench, options, pids):
    """At a fixed rate, and the most."""
    streams, sizes = bench.sizes.streams, bench.sizes
    steady = bench.run(options, pids, streams, "direct", sizes.direct_rate, sizes.direct_seconds)
    most, ramp = bench.most(options, pids, streams, "direct", sizes.most_direct)
    return steady, most, ramp


def direct(bench):
    sizes = bench.sizes
    steady, most, ramp = measure(bench, bench.carillon("direct-", sizes.streams), bench.pids)
    with Nchan() as server:
        rival_steady, rival_most, rival_ramp = measure(bench, server.options, server.pids)
    bad = wrong(steady)
    cpu, rival_cpu = steady["server_cpu_per_event"], rival_steady["server_cpu_per_event"]
    busy, rival_busy = ramp["server_cpu_per_event"], rival_ramp["server_cpu_per_event"]
    latency, rival_latency = (report["latency"]["publish_to_receipt"] for report in (steady, rival_steady))
    opening, rival_opening = (report["server_cpu_per_connection"] for report in (steady, rival_steady))
    each = {name: seconds * 1e6 / steady["throughput"]["received"] for name, seconds in steady["server_cpu"].items()}
    return [
        Row("direct-cpu", f"direct events, one user each: CPU of all servers for each, at {sizes.direct_rate:,.0f}/s to {sizes.streams:,} streams",
            "≤ half of nchan with Redis", cpu, "µs", {"to nchan": cpu / rival_cpu, "to nchan, each up to its most": busy / rival_busy}, cpu <= 0.5 * rival_cpu,
            {"nchan": rival_cpu, "up to its most": busy, "nchan up to its most": rival_busy} | {f"of it {name}": value for name, value in each.items()}, bad),
        Row("direct-most", f"the same: most a second, p99 under {sizes.p99:.0f} ms, nothing lost, {sizes.streams:,} streams", "≥ 2 × nchan with Redis", most, "/s",
            {"to nchan": most / rival_most}, most >= 2 * rival_most, {"nchan": rival_most}),
        Row("direct-latency", f"the same at {sizes.direct_rate:,.0f}/s: p99 from due to receipt", "p50 and p99 ≤ nchan with Redis", latency["p99"], "ms",
            {"to nchan, p99": latency["p99"] / rival_latency["p99"], "to nchan, p50": latency["p50"] / rival_latency["p50"]},
            latency["p50"] <= rival_latency["p50"] and latency["p99"] <= rival_latency["p99"],
            {"p50": latency["p50"], "nchan p50": rival_latency["p50"], "nchan p99": rival_latency["p99"]}, bad),
        Row("opening", f"{sizes.streams:,} streams opened, authenticated, leased, subscribed: CPU of all servers for each", "≤ 250 µs", opening, "µs",
            {"to the bound": opening / 250}, opening <= 250,
            {"nchan, without those duties": rival_opening, "seconds until all were ready": steady["connect"]["seconds"]}, merged(steady["connect"]["refused"])),
    ]
