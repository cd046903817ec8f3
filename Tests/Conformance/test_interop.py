"""The stream as other people's clients read it."""

import json
import queue
import socket
import threading

import httpx
import httpx_sse
import pytest
import sseclient

from harness import PATIENCE, eventually


class Reader:
    """Runs a client's endless iteration in a thread; events are asked for with a deadline."""

    def __init__(self, iterate):
        self._events = queue.Queue()
        self._socket = None
        threading.Thread(target=self._run, args=(iterate,), daemon=True).start()

    def _opened(self, response):
        response.raise_for_status()
        self._socket = response.extensions["network_stream"].get_extra_info("socket")

    def _run(self, iterate):
        try:
            for event in iterate(self._opened):
                self._events.put(event)
        except Exception as error:  # Whatever ends it is shown to whoever waits.
            self._events.put(error)
        else:
            self._events.put(EOFError("the stream ended"))

    def next(self, what):
        try:
            event = self._events.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"after {PATIENCE:g} s no {what}") from None
        if isinstance(event, Exception):
            raise AssertionError(f"instead of {what}: {event!r}") from event
        return event

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A client that is only closed leaves its thread in the middle of a read, and the connection open until the next ping.
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def headers_of(user, last_event_id):
    return {**user.bearer, **({"Last-Event-ID": last_event_id} if last_event_id else {})}


def new_client():
    return httpx.Client(trust_env=False, timeout=httpx.Timeout(PATIENCE, read=None))


def with_httpx_sse(user, last_event_id=""):
    def iterate(opened):
        url = f"{user.cluster.url}/v1/notifications/sse"
        with new_client() as client, httpx_sse.connect_sse(client, "GET", url, headers=headers_of(user, last_event_id)) as source:
            opened(source.response)
            yield from source.iter_sse()

    return Reader(iterate)


def with_sseclient(user, last_event_id=""):
    def iterate(opened):
        url = f"{user.cluster.url}/v1/notifications/sse"
        wanted = {"Accept": "text/event-stream", **headers_of(user, last_event_id)}
        with new_client() as client, client.stream("GET", url, headers=wanted) as response:
            opened(response)
            yield from sseclient.SSEClient(response.iter_bytes()).events()

    return Reader(iterate)


@pytest.mark.parametrize("client", [with_httpx_sse, with_sseclient])
def test_client_sees_data_ids_and_what_it_missed(cluster, user, client):
    titles = ["Plain", "Ünïcödé \U0001f514", "line\u2028separator\u2029paragraph", 'data: "quoted" \\n', "<b>&amp;</b>"]
    with client(user) as reader:
        ready = reader.next("ready")
        assert ready.event == "ready" and json.loads(ready.data)["last_event_id"] == ready.id
        assert 500 <= int(ready.retry) <= 2500
        for number, title in enumerate(titles, 1):
            made = cluster.notify(user, title=title, content="two\nlines")
            event = reader.next(f"the event {title!r}")
            data = json.loads(event.data)
            assert (event.event, data["id"], data["title"], data["content"]) == ("message", made["id"], title, "two\nlines")
            assert event.id == f"{ready.id.split('-')[0]}-{number}"
        user.write("PATCH", f"/{made['id']}/read")
        assert reader.next("the update").event == "update"
        position = event.id
    missed = [cluster.notify(user, title=f"missed {number}") for number in range(3)]
    with client(user, position) as reader:
        ready = reader.next("ready")
        assert (ready.event, ready.id) == ("ready", position)
        assert reader.next("the update again").event == "update"
        for made in missed:
            event = reader.next("what was missed")
            assert (event.event, json.loads(event.data)["id"]) == ("message", made["id"])
        live = cluster.notify(user)
        assert json.loads(reader.next("the live event").data)["id"] == live["id"]


@pytest.mark.parametrize("client", [with_httpx_sse, with_sseclient])
def test_client_that_reconnects_again_and_again_misses_nothing(cluster, user, client):
    """What a browser on a bad line does: it drops the stream in the middle and comes back with its position."""
    writer_done = threading.Event()
    made = []

    def write():
        for number in range(60):
            made.append(cluster.notify(user, title=f"{number}")["id"])
        writer_done.set()

    position = user.count()["last_event_id"]
    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    try:
        while len(seen) < 60:
            with client(user, position) as reader:
                assert reader.next("ready").id == position
                for _ in range(7):
                    if len(seen) == 60:
                        break
                    event = reader.next(f"event number {len(seen) + 1} of 60")
                    assert event.event == "message", event
                    seen.append(json.loads(event.data)["id"])
                    position = event.id
    finally:
        thread.join(PATIENCE)
    eventually("the writer is done", writer_done.is_set)
    assert seen == made
