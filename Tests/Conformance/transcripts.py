"""Transcripts: the examples of a Markdown page, run in a shell and held against what they print.

A fenced block ```console holds commands and their answers: a command begins with `$ ` and goes on in the next line after a backslash, or until what it opened
is closed; everything up to the next command is its answer. `curl -N` opens a stream, which stays open to the end of the page; a block ```sse holds what the
last one shows next.

In an answer
- a line that begins with a space goes on with the line before it: so long JSON is broken into lines;
- `…` stands for any text within a line, and on a line of its own for any number of lines;
- ids, times, positions, entity tags, keys and the like are compared by shape (`SHAPES`). Whatever one of them is in the page stands for what it is in the run:
  a command that names it is run with the real one.

`NAMES` are the users, customers and records of the pages. Each run gives them an ending of its own, so that a page can be run any number of times. `PORT` becomes a
free one.
"""

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import free_port

PATIENCE = 60.0
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "acme", "globex", "booking-7", "key-1")
# Where a page starts a node of its own.
PORT = "8090"


@dataclass(frozen=True)
class Shape:
    core: str
    before: str = ""
    after: str = ""
    # A later command may name it.
    named: bool = True
    # The same text is the same thing throughout the page, and no other text is.
    identity: bool = False


SHAPES = {
    "uuid": Shape(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\b", r"\b", identity=True),
    # What lies in the 2030s was said by the page itself.
    "time": Shape(r"202\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", r"\b"),
    "day": Shape(r"202\d-\d\d-\d\d", r"\b", r"\b"),
    "date": Shape(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", named=False),
    "position": Shape(r"\d+-\d+", r"(?:(?<=id: )|(?<=_event_id\":\")|(?<=_event_id\": \")|(?<=\"id\":\"))", r"\b"),
    "etag": Shape(r"\"[0-9a-f]{32}\"", identity=True),
    "cursor": Shape(r"[\w-]{12,}", r"(?:(?<=\"next\":\")|(?<=[?&]after=))"),
    "key": Shape(r"ck_[\w-]{43}", r"\b", r"(?![\w-])", identity=True),
    "incarnation": Shape(r"\d{13}-[0-9a-z]+-[a-z]+-\d+", r"\b", r"\b"),
    "node": Shape(r"(?:api|edge|worker)-\d+", r"\b", r"\b"),
    "port": Shape(r"\d+", r"(?<=127\.0\.0\.1:)", named=False),
    "retry": Shape(r"\d+", r"(?:(?<=retry: )|(?<=retry-after: )|(?<=\"retry\":)|(?<=try again in ))", named=False),
    "length": Shape(r"\d+", r"(?<=content-length: )", named=False),
    "left": Shape(r"\d+;t=\d+", r"(?<=;r=)", named=False),
    "seconds": Shape(r"\d+(?:\.\d+)?", r"(?:(?<=_seconds\":)|(?<=Max-Age=))", named=False),
}
VOLATILE = re.compile("|".join(f"(?P<{name}>{shape.before}{shape.core}{shape.after})" for name, shape in SHAPES.items()))
FENCE = re.compile(r"^```(console|sse)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Differs(AssertionError):
    """The page says something else than the service."""


@dataclass
class Step:
    """A command with its answer; or, without a command, what the open stream shows next."""

    line: int
    command: str | None
    answer: list = field(default_factory=list)

    @property
    def opens_stream(self):
        return self.command is not None and re.search(r"\bcurl\b.* -[a-zA-Z]*N", self.command) is not None


def steps(page):
    """The examples of a page in order."""
    found = []
    for fence in FENCE.finditer(page):
        line = page.count("\n", 0, fence.start()) + 1
        lines = fence[2].split("\n")[:-1]
        if fence[1] == "sse":
            found.append(Step(line + 1, None, lines))
            continue
        step, unfinished = None, False
        for number, text in enumerate(lines, line + 1):
            if unfinished:
                step.command += "\n" + text
            elif text.startswith("$ "):
                step = Step(number, text[2:])
                found.append(step)
            else:
                assert step is not None, f"line {number}: an answer without a command"
                step.answer.append(text)
                continue
            unfinished = not is_whole(step.command)
        assert not unfinished, f"line {line}: a command without an end"
    return found


def is_whole(command):
    """False while the shell would ask for another line."""
    if command.endswith("\\"):
        return False
    complaint = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, env={"LC_ALL": "C"}).stderr
    return not re.search("unexpected EOF|unexpected end of file|delimited by end-of-file", complaint)


def unfold(lines):
    """Joins what was broken into lines."""
    whole = []
    for line in lines:
        if line.startswith(" ") and whole:
            whole[-1] += line.lstrip(" ")
        else:
            whole.append(line)
    while whole and not whole[-1]:
        whole.pop()
    return whole


class Names:
    """The words of the page, and what stands for them in this run."""

    def __init__(self, ending):
        self._ending = ending
        self._real = {name: name + ending for name in NAMES}
        self._real[PORT] = str(free_port())

    def into_run(self, text):
        words = sorted(self._real, key=len, reverse=True)
        return re.sub(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])", lambda match: self._real[match[0]], text)

    def into_page(self, text):
        return text.replace(self._ending, "")

    def learn(self, page, real, shape):
        """That `page` stands for `real`."""
        if not shape.named:
            return
        known = self._real.get(page)
        if shape.identity and known not in (None, real):
            raise Differs(f"{page} was {known} before, and is {real} here")
        if shape.identity and known is None and real in self._real.values():
            raise Differs(f"{page} is {real}, which was something else before")
        self._real[page] = real


def pattern_of(lines):
    """A pattern for an answer, and what stands in each of its groups."""
    parts, groups = [], []
    for line in lines:
        if line == "…":
            parts.append(r"(?:[^\n]*\n)*?")
            continue
        at = 0
        for match in VOLATILE.finditer(line):
            parts.append(literal(line[at : match.start()]) + f"({SHAPES[match.lastgroup].core})")
            groups.append((match[0], SHAPES[match.lastgroup]))
            at = match.end()
        parts.append(literal(line[at:]) + r"\n")
    return re.compile("".join(parts)), groups


def literal(text):
    return r"[^\n]*?".join(re.escape(part) for part in re.split(" ?… ?", text))


def compare(answer, actual, names, *, whole=True):
    """Holds an answer against the page, and says how far it went. What follows counts only where it must be the `whole` one."""
    pattern, groups = pattern_of(unfold(answer))
    match = (pattern.fullmatch if whole else pattern.match)(actual)
    if match is None:
        raise Differs(f"the page says\n{shown(unfold(answer))}\nand the answer is\n{shown(actual.splitlines())}")
    for (page, shape), real in zip(groups, match.groups(), strict=True):
        names.learn(page, real, shape)
    return match.end()


def shown(lines):
    return "\n".join("    " + line for line in lines) or "    (nothing)"


class Shell:
    """A bash in which the commands of a page run one after the other, in an empty folder."""

    END = b"\x1e"

    def __init__(self, local, state):
        self._folder = tempfile.TemporaryDirectory()
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=self._folder.name, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )
        self._streams = 0
        self._read = 0
        # The page's `deploy/local` is the cluster under test, and `carillon` the program that it runs.
        self.run(f'deploy/local() {{ "{local}" "$1" --state "{state}" "${{@:2}}"; }}')
        program = Path(self._folder.name) / ".bin/carillon"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\nexec "$CARILLON_BIN" "$@"\n')
        program.chmod(0o755)
        self.run("PATH=$PWD/.bin:$PATH")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Its session is its own, with whatever the page started.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()
        self._folder.cleanup()

    def run(self, command):
        """What the command prints."""
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\x1e'\n".encode())
        self._process.stdin.flush()
        received, deadline = b"", time.monotonic() + PATIENCE
        while not received.endswith(self.END):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not part:
                raise Differs(f"the command did not end. It printed {received.decode()!r}, and of errors {self.errors()!r}")
            received += part
        text = received[:-1].decode().replace("\r\n", "\n").rstrip("\n")
        return text + "\n" if text else ""

    def open_stream(self, command):
        self._streams += 1
        self._read = 0
        self.run(f"exec {command} >'{self._stream}' &")

    @property
    def _stream(self):
        return Path(self._folder.name) / f".stream-{self._streams}"

    def shows(self, answer, names):
        """Waits for what the open stream shows next."""
        assert self._streams, "no stream is open here"
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self._stream.read_bytes() if self._stream.exists() else b""
            # Only what is whole: an event ends with an empty line.
            text = text[: text.rfind(b"\n\n") + 1].decode().replace("\r\n", "\n").replace(": ping\n\n", "")
            text = names.into_page(text)
            rest = text[self._read :].lstrip("\n")
            try:
                self._read = len(text) - len(rest) + compare(answer, rest, names, whole=False)
                return rest
            except Differs as error:
                if time.monotonic() >= deadline:
                    raise Differs(f"{error}\nand of errors {self.errors()!r}") from None
            select.select([], [], [], 0.02)

    def errors(self):
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:].strip()


def play(page, shell, names):
    """Runs a page. Yields each example with a message where the page and the service differ (else None), and with what came."""
    for step in steps(page):
        actual = ""
        try:
            if step.opens_stream:
                shell.open_stream(names.into_run(step.command))
            if step.opens_stream or step.command is None:
                if step.answer:
                    actual = shell.shows(step.answer, names)
            else:
                actual = names.into_page(shell.run(names.into_run(step.command)))
                compare(step.answer, actual, names)
            yield step, None, actual
        except Differs as error:
            yield step, str(error), actual
