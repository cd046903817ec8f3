"""Thousands of streams in one thread: sockets that are read when there is something to read, or not at all."""

import json
import select
import socket
import time
import urllib.parse


class Member:
    """One stream. `events` holds (name, id, data as text)."""

    def __init__(self, text, last=None):
        self.token, self.last = text, last
        self.socket = None
        self.status, self.retry, self.ended = None, None, None
        self.events = []
        self._rest, self._head = b"", True

    @property
    def is_open(self):
        return self.ended is None

    @property
    def is_ready(self):
        return bool(self.events) and self.events[0][0] == "ready"

    @property
    def messages(self):
        return [json.loads(data) for name, _, data in self.events if name == "message"]

    @property
    def seqs(self):
        return [int(identifier.split("-")[1]) for name, identifier, _ in self.events if name == "message"]

    @property
    def reason(self):
        """Of the close event, when it is the last one."""
        return json.loads(self.events[-1][2])["reason"] if self.events and self.events[-1][0] == "close" else None

    def feed(self, data):
        self._rest += data
        if self._head:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            self.status = int(head.split(None, 2)[1])
            self._head, self._rest = False, rest
        *blocks, self._rest = self._rest.split(b"\n\n")
        for block in blocks:
            name, data, identifier = "message", None, None
            for line in block.decode().split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data = value if data is None else data + "\n" + value
                elif field == "id":
                    identifier = self.last = value
                elif field == "retry":
                    self.retry = int(value)
            if data is not None:
                self.events.append((name, identifier, data))


class Crowd:
    """The members of one address. Used by `with`."""

    def __init__(self, url, receive_buffer=None):
        parts = urllib.parse.urlsplit(url)
        self.address, self.receive_buffer = (parts.hostname, parts.port), receive_buffer
        self.members, self._reading = [], {}
        self._poll = select.epoll()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            if member.socket is not None:
                member.socket.close()
        self._poll.close()

    def join(self, text, last=None, read=True):
        member = Member(text, last)
        member.socket = socket.socket()
        if self.receive_buffer is not None:
            # Before the connection: its window is told in the handshake.
            member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        member.socket.settimeout(30)
        member.socket.connect(self.address)
        resume = "" if last is None else f"Last-Event-ID: {last}\r\n"
        member.socket.sendall(
            f"GET /v1/notifications/sse HTTP/1.1\r\nHost: edge\r\nAccept: text/event-stream\r\nAuthorization: Bearer {text}\r\n{resume}\r\n".encode())
        member.socket.setblocking(False)
        self.members.append(member)
        if read:
            self.read(member)
        return member

    def read(self, member):
        """From now on it is read."""
        self._reading[member.socket.fileno()] = member
        self._poll.register(member.socket.fileno(), select.EPOLLIN)

    def step(self, patience=0.05):
        for descriptor, _ in self._poll.poll(patience):
            member = self._reading[descriptor]
            try:
                data = member.socket.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                member.feed(data)
                continue
            member.ended = time.monotonic()
            self._poll.unregister(descriptor)
            del self._reading[descriptor]
            member.socket.close()

    def until(self, check, what, patience):
        end = time.monotonic() + patience
        while not check():
            assert time.monotonic() < end, f"waited {patience} s in vain for {what}"
            self.step()

    def join_all(self, texts, patience=120):
        """A stream for each token, all of them ready."""
        fresh = []
        for number, text in enumerate(texts):
            fresh.append(self.join(text))
            if number % 50 == 0:
                self.step(0)
        self.until(lambda: all(member.is_ready or not member.is_open for member in fresh), "all streams to be ready", patience)
        failed = [member for member in fresh if not member.is_ready]
        assert not failed, f"{len(failed)} of {len(fresh)} streams did not open: {failed[0].status} {failed[0].events}"
        return fresh
