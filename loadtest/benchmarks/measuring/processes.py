"""CPU and memory of processes and of all that they started, from /proc (proc(5))."""

import os
import threading
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")


def table():
    """pid -> (parent, seconds of CPU, bytes of RSS). CPU is utime + stime, and that of children that were waited for."""
    rows = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        rows[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])) * TICK, int(fields[21]) * PAGE)
    return rows


def usage(pids):
    """name -> (seconds of CPU, bytes of RSS), each with its descendants: Postgres' backends are its children. Pages that they share count for each."""
    rows = table()
    children = {}
    for pid, (parent, _, _) in rows.items():
        children.setdefault(parent, []).append(pid)
    result = {}
    for name, root in pids.items():
        waiting, cpu, resident = [root], 0.0, 0
        while waiting:
            pid = waiting.pop()
            if pid in rows:
                cpu, resident = cpu + rows[pid][1], resident + rows[pid][2]
                waiting += children.get(pid, [])
        result[name] = (cpu, resident)
    return result


def cpu(pids):
    """name -> seconds of CPU."""
    return {name: seconds for name, (seconds, _) in usage(pids).items()}


class Watch:
    """With `with`: looks at the CPU of processes every half second."""

    def __init__(self, pids):
        self.pids, self.samples, self.over = pids, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        while True:
            self.samples.append((time.monotonic(), cpu(self.pids)))
            if self.over.wait(0.5):
                return

    def share(self, begin, end):
        """name -> share of a core between two moments, as near as was looked."""
        inside = [sample for sample in self.samples if begin <= sample[0] <= end]
        (first, before), (last, after) = inside[0], inside[-1]
        return {name: (after[name] - before[name]) / (last - first) for name in before}
