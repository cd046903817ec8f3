"""Clients of the other transports, by the libraries that people use: WebSocket, Socket.IO, long-poll. All hand out `Event`s."""

import json
import queue
import threading
import urllib.parse
from dataclasses import dataclass

import httpx
import socketio
import websockets.exceptions
import websockets.sync.client

from harness import PATIENCE, TimedOut


@dataclass(frozen=True)
class Event:
    name: str
    id: str | None
    json: dict

    @property
    def seq(self):
        return int(self.id.split("-")[1])


class Client:
    """An open stream, whatever it comes over. Events are handed out in order."""

    name = None

    def __init__(self):
        self._events = queue.Queue()
        self.seen = []
        # What a reconnect would send.
        self.last_id = None

    def _add(self, event):
        self.seen.append(event)
        if event.id is not None:
            self.last_id = event.id
        self._events.put(event)

    def next(self, what="another event", timeout=PATIENCE):
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            raise TimedOut(f"after {timeout:g} s not shown: {what}; {self.seen[-12:]}") from None

    def expect(self, name, timeout=PATIENCE):
        event = self.next(f"an event {name}", timeout)
        assert event.name == name, f"not {name} but {event}"
        return event

    def ready(self):
        return self.expect("ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class WebSocket(Client):
    name = transport = "websocket"
    evicted = (4001, {"reason": "evicted", "retry": 60000})

    @staticmethod
    def expired(close):
        return 4002, close

    @staticmethod
    def disconnected(close):
        return 1013, close

    def __init__(self, user, base=None, *, headers=None, bearer=True, **query):
        super().__init__()
        url = (base or user.cluster.url).replace("http", "ws", 1) + "/v1/notifications/ws"
        self.socket = websockets.sync.client.connect(
            url + ("?" + urllib.parse.urlencode(query) if query else ""),
            additional_headers={**(user.bearer if bearer else {}), **(headers or {})}, proxy=None, open_timeout=PATIENCE, compression=None, legacy=True,
        )  # fmt: skip
        self.code = self.reason = None
        self._over = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for text in self.socket:
                message = json.loads(text)
                assert set(message) == {"event", "id", "data"}, message
                self._add(Event(message["event"], message["id"], message["data"]))
        except websockets.exceptions.ConnectionClosed:
            pass
        self.code, self.reason = self.socket.close_code, self.socket.close_reason
        self._over.set()

    @property
    def is_over(self):
        return self._over.is_set()

    def ended(self):
        """Waits for the end; its code, and its reason as an object."""
        assert self._over.wait(PATIENCE), f"still open; {self.seen[-12:]}"
        return self.code, json.loads(self.reason) if self.reason else None

    def close(self):
        self.socket.close()


class SocketIO(Client):
    """By python-socketio, first by polls and then upgraded, as its clients do."""

    name, transport, carriers = "socketio", "socketio", None
    # After the first a client stays away, after the others it comes back by itself.
    evicted, others = "server disconnect", {"transport close", "transport error"}

    def __init__(self, user, base=None, *, headers=None, bearer=True, upgraded=True, **auth):
        super().__init__()
        self.reason = None
        self._over = threading.Event()
        self.client = socketio.Client(reconnection=False, handle_sigint=False)
        # The library hands each message to a thread of its own, which loses their order.
        trigger = self.client.eio._trigger_event
        self.client.eio._trigger_event = lambda *values, **options: trigger(*values, **{**options, "run_async": False})
        self.client.on("*", self._received)
        self.client.on("disconnect", self._ended)
        self.client.connect(
            base or user.cluster.url, transports=self.carriers, headers=headers or {}, wait_timeout=PATIENCE,
            auth={**({"token": user.token} if bearer else {}), **auth},
        )  # fmt: skip
        if upgraded:
            assert self.client.transport() == (self.carriers or ["websocket"])[0]

    def _received(self, name, data):
        name = name.removeprefix("notification:")
        data = dict(data)
        position = data.get("last_event_id") if name in ("ready", "resync", "position") else data.pop("last_event_id", None)
        self._add(Event(name, position, data))

    def _ended(self, reason):
        self.reason = reason
        self._over.set()

    @property
    def is_over(self):
        return self._over.is_set()

    def ended(self):
        assert self._over.wait(PATIENCE), f"still open; {self.seen[-12:]}"
        return "others" if self.reason in self.others else self.reason

    @staticmethod
    def expired(close):
        return "others"

    disconnected = expired

    def close(self):
        self.client.disconnect()


class SocketIOWebSocket(SocketIO):
    name, carriers = "socketio-websocket", ["websocket"]


class SocketIOPolling(SocketIO):
    name, carriers = "socketio-polling", ["polling"]


class Poll(Client):
    """Asks again and again, as a client does. It has no `ready`: the first answer tells the position."""

    name = transport = "poll"

    def __init__(self, user, base=None, *, last_event_id=None, timeout=25, **query):
        super().__init__()
        self._http = httpx.Client(trust_env=False, timeout=PATIENCE + 60)
        self._url = f"{base or user.cluster.url}/v1/notifications/poll"
        self._bearer, self._query = user.bearer, {"timeout": timeout, **query}
        self.last_id = last_event_id
        self._over = threading.Event()
        self.answers = []
        self._stop = threading.Event()
        if last_event_id is None:
            self.last_id = self._ask()["last_event_id"]
        threading.Thread(target=self._read, daemon=True).start()

    def _ask(self):
        answer = self._http.get(self._url, params={**self._query, **({"after": self.last_id} if self.last_id else {})}, headers=self._bearer)
        self.answers.append(answer)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ready(self):
        return Event("ready", self.last_id, {"last_event_id": self.last_id})

    def _read(self):
        try:
            while not self._stop.is_set():
                answer = self._ask()
                for event in answer["events"]:
                    self._add(Event(event["event"], event["id"], event["data"]))
                self.last_id = answer["last_event_id"]
                if any(event["event"] == "close" for event in answer["events"]):
                    return
        except (httpx.TransportError, AssertionError, RuntimeError):
            pass
        finally:
            self._over.set()

    @property
    def is_over(self):
        return self._over.is_set()

    def close(self):
        self._stop.set()
        self._http.close()
