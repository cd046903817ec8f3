"""One row of the table, and how big what it measures is."""

import math
from dataclasses import dataclass, field


@dataclass
class Row:
    name: str
    measured: str
    target: str
    value: float
    unit: str
    # Of the value to what it is compared with, by the name of that.
    ratios: dict = field(default_factory=dict)
    # None: nothing is asked of it.
    reached: bool | None = None
    # Whatever else was seen, with what it is compared with among it.
    figures: dict = field(default_factory=dict)
    # What was not as it should be: with something here nothing is reached.
    wrong: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.wrong:
            self.reached = False

    @property
    def numbers(self):
        return [self.value, *self.ratios.values(), *(value for value in self.figures.values() if isinstance(value, (int, float)))]

    @property
    def finite(self):
        return all(math.isfinite(number) for number in self.numbers)

    @property
    def verdict(self):
        return {True: "reached", False: "not reached", None: ""}[self.reached]

    @property
    def result(self):
        return f"{short(self.value)} {self.unit}".strip()

    def cells(self):
        beside = "; ".join(f"{name} {short(value) if isinstance(value, (int, float)) else value}" for name, value in self.figures.items())
        if self.wrong:
            beside += "; WRONG: " + ", ".join(f"{name} {count}" for name, count in self.wrong.items())
        ratios = ", ".join(f"{ratio:.2f} {name}" for name, ratio in self.ratios.items())
        return [self.name, self.measured, self.result, beside, ratios, self.target, self.verdict]

    def json(self):
        return {"name": self.name, "measured": self.measured, "target": self.target, "value": self.value, "unit": self.unit, "ratios": self.ratios,
                "reached": self.reached, "figures": self.figures, "wrong": self.wrong}


def short(number):
    """Three digits that count, or all of those before the point."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:,.{digits}f}"


@dataclass
class Sizes:
    streams: int = 10_000
    idle_streams: int = 15_000
    growth: tuple = (1_000, 15_000)
    edges: int = 4
    edge_streams: int = 15_000
    # Events a second of all broadcasts together, and seconds of it.
    event_rate: float = 30_000
    seconds: float = 8
    # Seconds in which nothing is sent: two pings of each stream.
    rest: float = 62
    idle_seconds: float = 30
    settle: float = 10
    direct_rate: float = 2_000
    direct_seconds: float = 10
    # Runs at that rate, and as many of nchan between them.
    turns: int = 3
    # Of the first step of a ramp, by what is sent.
    most_direct: float = 4_000
    most_stored: float = 1_500
    most_groups: float = 4_000
    step: float = 3
    stored_seconds: float = 60
    # What a rate must keep to count as held: milliseconds, and the share of it that arrives.
    p99: float = 250
    kept: float = 0.98
    pgbench_seconds: float = 10
    pgbench_warm: float = 3
    behind: int = 5
    allocation_streams: int = 500
    connects: int = 1_000_000
    churn_streams: int = 15_000
    # Steps of a ramp are so many times as fast as the one before, first to find where it breaks, then to find it again from nearer. None: no ramp.
    factors: tuple = (1.3, 1.06)
    # Whether what is close is measured twice.
    twice: bool = True


SHORT = Sizes(
    streams=200, idle_streams=200, growth=(50, 200), edges=2, edge_streams=100, event_rate=6_000, seconds=2, rest=2, idle_seconds=1, settle=0, direct_rate=200,
    direct_seconds=0.5, turns=1, most_direct=400, most_stored=200, most_groups=1_000, step=0.5, stored_seconds=0.5, p99=5_000, kept=0.3, pgbench_seconds=2, pgbench_warm=1,
    connects=600, churn_streams=200, factors=(), twice=False)
