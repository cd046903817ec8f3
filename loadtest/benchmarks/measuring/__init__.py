"""What the benchmarks here share: a cluster of their own, the processes of its servers, the load generator, pgbench, and what Carillon is compared with."""


class Failed(Exception):
    """A measurement that gave no figure; the message says why."""
