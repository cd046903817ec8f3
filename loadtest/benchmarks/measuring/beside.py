"""What Carillon is measured beside, with the same client: a loop of sends in C, and nchan with Redis."""

import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from measuring import Failed
from measuring.cluster import ROOT

BENCHMARKS = ROOT / "loadtest" / "benchmarks"


def compiled(source, folder, *options):
    """The path of one of our C files as a program, compiled here and now."""
    path = Path(folder, source.removesuffix(".c"))
    if not path.exists():
        subprocess.run(["cc", "-O2", "-o", str(path), str(BENCHMARKS / source), *options], check=True)
    return path


def free_port():
    """One at which nobody listens, and which the kernel gives to no outgoing connection."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Floor:
    """responder.c: one thread, one epoll, one write for each stream and event of so many bytes: what the kernel takes."""

    def __init__(self, folder, event_bytes):
        self.program, self.bytes = compiled("responder.c", folder), event_bytes

    def __enter__(self):
        port = free_port()
        self.process = subprocess.Popen([self.program, str(port), str(self.bytes)])
        self.pids = {"c": self.process.pid}
        url = f"http://127.0.0.1:{port}"
        # It counts nothing that could be asked for.
        self.options = ["--target", url, "--publish-target", url, "--api-key", "x", "--jwt-secret", "x", "--verify", "0"]
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return self
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.__exit__()
        raise Failed("responder.c does not listen")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Nchan:
    """loadtest/rivals/nchan."""

    script = str(ROOT / "loadtest" / "rivals" / "nchan")

    def __init__(self, mode=None):
        """The mode is nchan_redis_storage_mode: its own default is distributed, which keeps messages in Redis; nostore hands them on."""
        self.environment = {**os.environ, **({"NCHAN_MODE": mode} if mode else {})}

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="cl-nchan.", dir="/var/tmp")
        os.chmod(self.folder, 0o755)
        done = subprocess.run([self.script, "start", self.folder], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            self.__exit__()
            raise Failed(f"nchan does not start: {done.stderr.strip()}")
        env = dict(re.findall(r'export (\w+)="?(.*?)"?$', done.stdout, re.M))
        self.version = env["RIVAL_VERSION"]
        self.pids = {name: int(pid) for name, pid in (pair.split("=") for pair in env["RIVAL_PIDS"].split())}
        self.options = ["--adapter", "nchan", "--target", env["RIVAL_URL"], "--publish-target", env["RIVAL_PUBLISH_URL"]]
        return self

    def __exit__(self, *_):
        subprocess.run([self.script, "stop", self.folder], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
