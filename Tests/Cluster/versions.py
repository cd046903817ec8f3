"""Programs of other versions: the next one, which is made of the present one, and the oldest one that nodes of today have to get on with."""

import contextlib
import glob
import os
import re
import shutil
import socket
import subprocess
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIGRATIONS = "Sources/NotificationStore/Migrations"
ENVELOPE = "Sources/NotificationCore/Envelope.swift"
FRAME = re.compile(r"public static let version: UInt8 = (\d+)")


def frame_version():
    """Of the messages that nodes publish to users' channels."""
    with open(os.path.join(ROOT, ENVELOPE)) as file:
        return int(FRAME.search(file.read()).group(1))


class Translation:
    """Redis as the nodes of the next version have it. What they publish to users' channels becomes frames of the next version, of another layout as well, and
    such frames reach them as ones that they understand; those of the present version they do not understand."""

    def __init__(self, redis):
        self.redis = redis
        self.present = frame_version()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.published = self.heard = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _swap(self, channel, payload):
        if not channel.endswith(b":ch") or not payload:
            return payload
        other = {self.present: self.present + 1, self.present + 1: self.present}.get(payload[0])
        return payload if other is None else bytes([other]) + payload[:0:-1]

    def _accept(self):
        # It ends when the listener is closed.
        with contextlib.suppress(OSError):
            while True:
                node, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.redis.port))
                for source, sink, change in ((node, server, self._command), (server, node, self._reply)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._copy, args=(source, sink, change), daemon=True).start()

    def _copy(self, source, sink, change):
        # It ends when either side does; then the other one is to know.
        with contextlib.suppress(OSError, EOFError), source.makefile("rb") as file:
            while True:
                sink.sendall(self._encode(change(self._read(file))))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _command(self, words):
        if words[0].upper() == b"PUBLISH":
            swapped = self._swap(words[1], words[2])
            self.published += swapped is not words[2]
            return [words[0], words[1], swapped]
        return words

    def _reply(self, value):
        if isinstance(value, list) and len(value) == 3 and value[0] == b"message":
            swapped = self._swap(value[1], value[2])
            self.heard += swapped is not value[2]
            return [value[0], value[1], swapped]
        return value

    def _read(self, file):
        """A value of RESP 2: bytes, a list, None, or a line as it came."""
        line = file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        if line[:1] == b"$":
            length = int(line[1:])
            return None if length < 0 else file.read(length + 2)[:-2]
        if line[:1] == b"*":
            return [self._read(file) for _ in range(int(line[1:]))]
        return Line(line)

    def _encode(self, value):
        if value is None:
            return b"$-1\r\n"
        if isinstance(value, Line):
            return value.text
        if isinstance(value, list):
            return b"*%d\r\n" % len(value) + b"".join(map(self._encode, value))
        return b"$%d\r\n%s\r\n" % (len(value), value)


class Line:
    def __init__(self, text):
        self.text = text


def next_program(binary, folder, *migrations):
    """A copy of a program that knows more migrations."""
    os.makedirs(folder)
    copy = os.path.join(folder, "carillon")
    shutil.copy(binary, copy)
    for resources in glob.glob(os.path.join(os.path.dirname(os.path.realpath(binary)), "carillon_*.resources")):
        shutil.copytree(resources, os.path.join(folder, os.path.basename(resources)))
    place = os.path.join(folder, "carillon_NotificationStore.resources", "Migrations")
    known = len(glob.glob(os.path.join(place, "[0-9]*.sql")))
    for number, sql in enumerate(migrations, known + 1):
        with open(os.path.join(place, f"{number:04}_later.sql"), "w") as file:
            file.write(sql.replace("KNOWN", str(known)))
    return copy, known


def git(*arguments, folder=ROOT):
    done = subprocess.run(["git", "-C", folder, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.strip()


def is_compatible(commit):
    """Whether a commit has the present frame version, and no migration that differs from the present ones."""
    found = FRAME.search(git("show", f"{commit}:{ENVELOPE}"))
    if found is None or int(found.group(1)) != frame_version():
        return False
    for line in git("ls-tree", commit, MIGRATIONS + "/").splitlines():
        blob, path = line.split(None, 3)[2:]
        present = os.path.join(ROOT, path)
        if not os.path.exists(present) or git("hash-object", present) != blob:
            return False
    return True


def oldest_commit():
    """The oldest commit whose nodes have to get on with those of today. From a release on none of its migrations is ever edited."""
    oldest = None
    # Between two of these nothing that counts has changed.
    for commit in ["HEAD", *git("log", "--format=%H", "--", MIGRATIONS, ENVELOPE).splitlines()]:
        if not is_compatible(commit):
            break
        oldest = git("rev-parse", commit)
    assert oldest, "the migrations or the frame version were changed since the last commit: no commit is compatible"
    return oldest


def oldest_program(binary):
    """The program of that commit, built unless its sources are the present ones."""
    commit = oldest_commit()
    changed = git("diff", "--name-only", commit, "--", "Sources", "Package.swift", "Package.resolved")
    if not changed:
        return binary
    place = os.path.join(os.environ["CARILLON_LOCAL_STATE"], "..", f"carillon-{commit[:12]}")
    if not os.path.exists(place):
        git("worktree", "prune")
        git("worktree", "add", "--detach", place, commit)
    # With the packages of today, which are there already.
    shutil.copy(os.path.join(ROOT, "Package.resolved"), place)
    try:
        done = subprocess.run(
            ["swift", "build", "--package-path", place, "--product", "carillon"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, f"{commit} does not build: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        made, kept = os.path.join(place, ".build", "debug"), place + "-program"
        os.makedirs(kept, exist_ok=True)
        shutil.copy(os.path.join(made, "carillon"), kept)
        for resources in glob.glob(os.path.join(made, "*.resources")):
            shutil.copytree(resources, os.path.join(kept, os.path.basename(resources)), dirs_exist_ok=True)
    finally:
        git("worktree", "remove", "--force", place)
    return os.path.join(place + "-program", "carillon")
