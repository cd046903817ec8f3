"""One event to all streams: what each costs beside a loop of sends in C, and whether that grows with their number."""

import os

from fan_out.bench import event_bytes, merged
from fan_out.row import Row
from measuring.beside import Floor, Nchan
from measuring.tool import wrong


def broadcast(bench):
    streams = bench.sizes.streams
    own, floors, wrongs = [], [], []

    def carillon():
        report = bench.broadcast(bench.carillon("all-", streams), bench.pids, streams)
        own.append(report)
        wrongs.append(wrong(report))

    def floor():
        with Floor(bench.cluster.files, event_bytes(own[0])) as server:
            floors.append(bench.broadcast(server.options, server.pids, streams)["server_cpu_per_event"])

    # In the one order and back, so that what else the machine does falls on both.
    carillon()
    floor()
    with Nchan() as server:
        rival = bench.broadcast(server.options, server.pids, streams)["server_cpu_per_event"]
    if bench.sizes.twice:
        floor()
        carillon()
    mine, c = sum(report["server_cpu_per_event"] for report in own) / len(own), sum(floors) / len(floors)
    edge = sum(report["server_cpu"]["edge-1"] / report["throughput"]["received"] for report in own) / len(own) * 1e6
    return [Row(
        "broadcast", f"CPU of all servers for each delivered event, one broadcast to {streams:,} at a time, {event_bytes(own[0])} bytes", "≤ 1.3 × C, ≤ nchan", mine, "µs",
        {"to C": mine / c, "to nchan": mine / rival}, mine <= 1.3 * c and mine <= rival,
        {"C": c, "nchan": rival, "the edge alone": edge, "p99 in ms": own[-1]["latency"]["publish_to_receipt"]["p99"]}, merged(*wrongs))]


def growth(bench):
    ratios, figures, wrongs = [], {}, []
    for streams in bench.sizes.growth:
        report = bench.broadcast(bench.carillon("grow-", streams), bench.pids, streams)
        wrongs.append(wrong(report))
        with Floor(bench.cluster.files, event_bytes(report)) as server:
            c = bench.broadcast(server.options, server.pids, streams)["server_cpu_per_event"]
        ratios.append(report["server_cpu_per_event"] / c)
        figures |= {f"{streams:,}": report["server_cpu_per_event"], f"C {streams:,}": c, f"ratio {streams:,}": ratios[-1]}
    few, many = bench.sizes.growth
    return [Row(
        "growth", f"CPU for each delivered event as a ratio to the C loop's, at {many:,} streams and at {few:,}", "within 1.2 ×", ratios[1], f"× C at {many:,}",
        {f"to that at {few:,}": ratios[1] / ratios[0]}, ratios[1] <= 1.2 * ratios[0], figures, merged(*wrongs))]


def loops(bench):
    """With one loop the client has the other cores, as it would have a machine of its own."""
    streams, figures, wrongs, costs = bench.sizes.streams, {}, [], []
    cores = sorted(os.sched_getaffinity(0))
    for count in (1, 2):
        with bench.event_loops(count, "edge-1"):
            try:
                # Every thread that there is; those to come have it from the one that makes them.
                for task in os.listdir(f"/proc/{bench.cluster.pids['edge-1']}/task"):
                    os.sched_setaffinity(int(task), cores[:count])
                os.sched_setaffinity(0, cores[1:] if count == 1 and len(cores) > 1 else cores)
                report = bench.broadcast(bench.carillon("loop-", streams), bench.pids, streams)
            finally:
                os.sched_setaffinity(0, cores)
        wrongs.append(wrong(report))
        costs.append(report["server_cpu"]["edge-1"] / report["throughput"]["received"] * 1e6)
        name = "one loop on one core" if count == 1 else "two loops on two"
        figures |= {f"{name}, µs": costs[-1], f"{name}, p50 in ms": report["latency"]["publish_to_receipt"]["p50"],
                    f"{name}, p99 in ms": report["latency"]["publish_to_receipt"]["p99"]}
    return [Row("loops", f"CPU of the edge for each delivered event, two event loops on two cores beside one pinned to one, {streams:,} streams", "–", costs[1], "µs",
                {"to one loop": costs[1] / costs[0]}, None, figures, merged(*wrongs))]
