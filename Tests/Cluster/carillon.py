"""What the tests of the cluster share: requests, tokens, nodes, and a stream that is read as WHATWG HTML 9.2 says."""

import base64
import hashlib
import hmac
import json
import os
import queue
import socket
import subprocess
import threading
import time
import urllib.parse
import uuid

import requests

URL = os.environ["CARILLON_URL"]
APIS = os.environ["CARILLON_API_URLS"].split()
EDGES = os.environ["CARILLON_EDGE_URLS"].split()
KEY = os.environ["CARILLON_API_KEY"]
LOCAL = os.environ["CARILLON_LOCAL"]
STATE = os.environ["CARILLON_LOCAL_STATE"]
# A bound on every wait, generous: nothing here measures time.
PATIENCE = 90


def local(*arguments):
    done = subprocess.run(
        [LOCAL, *arguments, "--state", STATE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"deploy/local {arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def new_user(prefix="user"):
    return f"{prefix}-{uuid.uuid4().hex}"


def token(user, *options):
    return local("token", user, *options).strip()


def bearer(text):
    return {"Authorization": "Bearer " + text}


def call(method, path, text=None, base=URL, **more):
    headers = more.pop("headers", {}) | (bearer(text) if text else {})
    return requests.request(method, base + path, headers=headers, timeout=PATIENCE, **more)


def notify(users, title="hello", base=URL, **fields):
    users = [users] if isinstance(users, str) else users
    answer = call("POST", "/v1/internal/notify", KEY, base=base, json={"title": title, "user_ids": users} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["notifications"]


def problem(answer, status, code):
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    assert body["code"] == "notifications_m." + code and body["status"] == status, body
    assert body["type"] and body["title"] and body["instance"]
    return body


def eventually(check, what):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            value = check()
            if value:
                return value
        except (requests.RequestException, AssertionError):
            pass
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.05)


def metrics(base):
    values = {}
    for line in requests.get(base + "/metrics", timeout=PATIENCE).text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


class Event:
    def __init__(self, name, data, last_id, has_id):
        self.name, self.id, self.has_id = name, last_id, has_id
        self.data = json.loads(data) if data is not None else None

    def __repr__(self):
        return f"{self.name} {self.id} {self.data}"


class Stream:
    """One request for a stream. Its events come through a thread; the end of the stream is the event None."""

    def __init__(self, text=None, base=URL, last=None, path="/v1/notifications/sse", headers=None, read=True):
        address = urllib.parse.urlsplit(base)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=PATIENCE)
        lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if text:
            lines.append("Authorization: Bearer " + text)
        if last is not None:
            lines.append("Last-Event-ID: " + last)
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers, self.cookies = {}, []
        while (line := self.file.readline().decode().strip()):
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()
            if name.lower() == "set-cookie":
                self.cookies.append(value.strip())
        self.last, self.retry, self.ids = last, None, []
        self.events = queue.Queue()
        if read:
            threading.Thread(target=self._read, daemon=True).start()

    def _lines(self):
        chunked = self.headers.get("transfer-encoding") == "chunked"
        rest = b""
        while True:
            if chunked:
                size = int(self.file.readline().strip() or b"0", 16)
                data = self.file.read(size)
                self.file.readline()
            else:
                data = self.file.readline()
            if not data:
                return
            rest += data
            *lines, rest = rest.split(b"\n")
            yield from lines

    def _read(self):
        name, data, has_id = "message", [], False
        try:
            self.socket.settimeout(None)
            for raw in self._lines():
                line = raw.decode()
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if line == "":
                    if data or has_id:
                        self.events.put(Event(name if data else "position", "\n".join(data) if data else None, self.last, has_id))
                    name, data, has_id = "message", [], False
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    self.last, has_id = value, True
                elif field == "retry":
                    self.retry = int(value)
        except (OSError, ValueError):
            pass
        self.events.put(None)

    def next(self, patience=PATIENCE):
        try:
            event = self.events.get(timeout=patience)
        except queue.Empty:
            raise AssertionError("waited in vain for an event") from None
        return event

    def expect(self, name, patience=PATIENCE):
        event = self.next(patience)
        assert event is not None, f"the stream ended, {name} was expected"
        assert event.name == name, f"{event}, {name} was expected"
        return event

    def until_end(self):
        events = []
        while (event := self.next()) is not None:
            events.append(event)
        return events

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def forged(claims, algorithm="HS256", secret=b"a secret that nobody configured, 32+"):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    head = part({"alg": algorithm, "typ": "JWT"}) + b"." + part(claims)
    signature = hmac.new(secret, head, hashlib.sha256).digest() if algorithm != "none" else b""
    return (head + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
