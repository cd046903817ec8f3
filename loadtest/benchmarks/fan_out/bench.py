"""What the rows are measured with."""

from contextlib import ExitStack, contextmanager
from pathlib import Path

from measuring import Failed
from measuring.tool import Tool, wrong

ADDRESSES = "127.0.0.2-127.0.0.9"


class Bench:
    """A cluster of one API node, one edge and one worker, without its load balancer, and the load generator on one event loop."""

    def __init__(self, cluster, sizes, thresholds):
        self.cluster, self.sizes, self.thresholds = cluster, sizes, thresholds
        self.tool = Tool(cluster.files)

    # What every run has in common; tokens are those of users whom no other row has.
    def carillon(self, prefix, streams):
        file = Path(self.cluster.files, f"tokens-{prefix}{streams}")
        if not file.exists():
            file.write_text("\n".join(self.cluster.tokens(prefix, streams)) + "\n")
        return ["--target", *self.cluster.edges, "--publish-target", *self.cluster.apis, "--api-key", self.cluster.key, "--tokens", file]

    @property
    def pids(self):
        """All servers that have a part in it, idle ones among them."""
        return {name: pid for name, pid in self.cluster.pids.items() if name != "haproxy"}

    def run(self, options, pids, streams, publish, rate, seconds, *more):
        report = self.tool("run", "--connections", streams, "--loops", 1, "--connect-rate", 20_000, "--mix", 0, "--warm-up", min(2, seconds),
                           "--verify", min(streams, 200), "--verify-inboxes", 0, "--publish", publish, "--rate", rate, "--duration", seconds, *options, *more, pids=pids)
        if report["throughput"]["received"] == 0:
            raise Failed(f"no event was received: {wrong(report)}")
        return report

    @contextmanager
    def event_loops(self, count, *nodes):
        """These nodes have so many meanwhile."""
        try:
            for name in nodes:
                self.cluster.restart(name, CARILLON_THREADS=count)
            yield
        finally:
            with ExitStack() as back:
                for name in nodes:
                    back.callback(self.cluster.restart, name, CARILLON_THREADS=None)

    def broadcast(self, options, pids, streams, *more):
        """Events to all, as many a second in all however many streams there are."""
        return self.run(options, pids, streams, "broadcast", self.sizes.event_rate / streams, self.sizes.seconds, *more)

    def most(self, options, pids, streams, publish, start, group=1, p99=None, more=()):
        """The last rate of a ramp that held, and the report of the ramp that it is from."""
        best, best_report = None, None
        if not self.sizes.factors:
            report = self.run(options, pids, streams, publish, start, self.sizes.step, "--group", group, *more)
            return report["throughput"]["received_per_second"], report
        for factor in self.sizes.factors:
            report = self.run(options, pids, streams, publish, best or start, self.sizes.step, "--scenario", "ramp", "--ramp-factor", factor,
                              "--ramp-p99", p99 or self.sizes.p99, "--group", group, *more)
            held = [part["phase"]["rate"] for part in report["phases"] if part["held"]]
            if held and held[-1] >= (best or 0):
                best, best_report = held[-1], report
        if best is None:
            raise Failed(f"not even {start:.0f}/s held: {report['phases'][0]['latency']['p99']:.0f} ms p99, {wrong(report)}")
        return best, best_report


def event_bytes(report):
    """Of one event, with what else came on the streams shared out among them: a few bytes too many."""
    return round(report["throughput"]["received_bytes"] / report["throughput"]["received"])


def merged(*counts):
    """What was wrong in any of several runs."""
    total = {}
    for some in counts:
        for name, count in some.items():
            total[name] = total.get(name, 0) + count
    return total
