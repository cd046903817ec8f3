"""A `deploy/local` cluster on free ports, removed with all that it stored at the end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Failed

ROOT = Path(__file__).resolve().parents[3]
LOCAL = str(ROOT / "deploy" / "local")


class Cluster:
    """With `with`, it is up; `files` is a folder for whatever else is written."""

    def __init__(self, *arguments):
        self.arguments = arguments
        self.state = tempfile.mkdtemp(prefix="carillon-benchmark.", dir="/var/tmp")
        os.chmod(self.state, 0o755)
        self.files = Path(tempfile.mkdtemp(prefix="carillon-benchmark-files."))

    def __enter__(self):
        # One that is told to end takes its cluster along.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            self.up("--port", "0", *self.arguments)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.local("down", "--purge")
        for folder in (self.state, self.files):
            shutil.rmtree(folder, ignore_errors=True)

    def local(self, *arguments, **environment):
        """What `deploy/local` prints."""
        done = subprocess.run([LOCAL, *arguments, "--state", self.state], stdout=subprocess.PIPE, text=True, env=os.environ | environment)
        if done.returncode != 0:
            raise Failed(f"deploy/local {arguments[0]} ended with status {done.returncode}")
        return done.stdout

    def up(self, *arguments):
        self.local("up", *arguments)
        self.look()

    def look(self):
        """Reads where everything is, once more: processes that were started again have other ids."""
        self.env = {name: value.strip('"') for name, value in re.findall(r"export (\w+)='?(.*?)'?$", self.local("env"), re.M)}
        self.key = self.env["CARILLON_API_KEY"]
        self.apis = self.env["CARILLON_API_URLS"].split()
        self.edges = self.env["CARILLON_EDGE_URLS"].split()
        self.pids = {name: int(pid) for name, pid in (pair.split("=") for pair in self.env["CARILLON_PIDS"].split())}

    def restart(self, name, **settings):
        """One node, with these settings besides; a value of None takes one back."""
        words = [word for key, value in settings.items() for word in (("--unset", key) if value is None else ("--set", f"{key}={value}"))]
        self.local("stop", name)
        self.local("start", name, *words)
        self.look()

    def sql(self, text):
        return subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.env["CARILLON_DATABASE_URL"], "-c", text], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.strip()

    def durability(self):
        """The settings that a figure stands or falls with."""
        return self.sql("SELECT string_agg(name || ' = ' || setting, ', ' ORDER BY name) FROM pg_settings "
                        "WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'server_version')")

    def tokens(self, prefix, count):
        return self.local("token", prefix, "--count", str(count), "--ttl", "6h").split()

    def token(self, user):
        return self.local("token", user, "--ttl", "6h").strip()
