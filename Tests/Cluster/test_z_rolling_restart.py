"""A deploy of the whole cluster: every node is stopped and started again, one after the other, while browsers listen and the application writes."""

import collections
import json
import threading
import time

import requests

from carillon import APIS, EDGES, KEY, PATIENCE, URL, call, eventually, local, new_user
from crowd import Crowd

USERS, TABS = 50, 4


class Browser:
    """An EventSource: it comes back by itself after `retry:`, with the last id, and gives up for good on anything but 200."""

    def __init__(self, text):
        self.token, self.member = text, None
        self.last, self.retry = None, 1000
        self.due = 0.0
        self.story, self.failure, self.reconnects = [], None, -1

    def step(self, crowd, now):
        member = self.member
        if member is not None:
            if member.is_open:
                return
            if member.status not in (200, None):
                self.failure = self.failure or f"answered {member.status}"
                return
            self.collect()
            self.member = None
            self.due = now + self.retry / 1000
        if now >= self.due and self.failure is None:
            self.reconnects += 1
            try:
                self.member = crowd.join(self.token, self.last)
            except OSError:
                # No server at all: later.
                self.due = now + self.retry / 1000

    def collect(self):
        """What the present connection has shown so far."""
        member = self.member
        if member is not None:
            self.story += member.events
            member.events = []
            self.last = member.last
            self.retry = member.retry or self.retry

    def check(self, expected):
        assert self.failure is None, self.failure
        names = {name for name, _, _ in self.story}
        assert names <= {"ready", "message", "close"}, f"{names}: {[event for event in self.story if event[0] == 'resync'][:2]}"
        reasons = {json.loads(data)["reason"] for name, _, data in self.story if name == "close"}
        assert reasons <= {"draining", "disconnected"}, reasons
        messages = [json.loads(data) for name, _, data in self.story if name == "message"]
        assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1)), "lost, doubled or reordered"
        assert [message["unread"] for message in messages] == list(range(1, len(messages) + 1))
        shown = [message["id"] for message in messages]
        assert set(expected) <= set(shown), "lost"


class Application:
    """Writes at a light pace, and repeats what was not accepted, with the same idempotency key."""

    def __init__(self, users):
        self.accepted = collections.defaultdict(list)
        self.reasons, self.wrong = collections.Counter(), []
        self._users = users
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self):
        number = 0
        while not self._over.is_set():
            number += 1
            user = self._users[number % len(self._users)]
            while True:
                try:
                    answer = call(
                        "POST", "/v1/internal/notify", KEY, headers={"Idempotency-Key": f"{user}-{number}"},
                        json={"title": str(number), "user_ids": [user]})
                    if answer.status_code == 201:
                        self.accepted[user].append(answer.json()["notifications"][0]["id"])
                        break
                    if answer.status_code not in (502, 503, 504):
                        self.wrong.append((answer.status_code, answer.text))
                    self.reasons[answer.status_code] += 1
                except requests.RequestException as error:
                    self.reasons[type(error).__name__] += 1
                if self._over.wait(0.1):
                    return
            self._over.wait(0.02)

    def stop(self):
        self._over.set()
        self._thread.join(PATIENCE)


def test_a_rolling_restart_is_not_noticed():
    prefix = new_user("rolling")
    # Minted by the cluster, whose secret is not ours: the users are its numbers.
    texts = local("token", prefix, "--count", str(USERS)).split()
    users = [f"{prefix}{number}" for number in range(USERS)]
    browsers = [Browser(text) for text in texts for _ in range(TABS)]
    names = [f"api-{number + 1}" for number in range(len(APIS))] + [f"edge-{number + 1}" for number in range(len(EDGES))] + ["worker-1"]
    with Crowd(URL) as crowd:

        def live(check, what, patience):
            end = time.monotonic() + patience
            while True:
                for browser in browsers:
                    browser.step(crowd, time.monotonic())
                crowd.step()
                if check():
                    return
                assert time.monotonic() < end, f"waited {patience} s in vain for {what}"

        live(lambda: all(browser.member and browser.member.is_ready for browser in browsers), "every browser to be connected", 60)
        application = Application(users)
        failures = []

        def deploy():
            try:
                for name in names:
                    local("stop", name)
                    local("start", name)
            except AssertionError as error:
                failures.append(error)

        deploying = threading.Thread(target=deploy)
        try:
            live(lambda: len(application.accepted) == USERS, "a write for each user", 60)
            deploying.start()
            live(lambda: not deploying.is_alive(), "the restart of every node", 300)
            assert failures == []
            so_far = sum(len(ids) for ids in application.accepted.values())
            live(lambda: sum(len(ids) for ids in application.accepted.values()) >= so_far + USERS, "writes after the restart", 60)
        finally:
            application.stop()
            if deploying.is_alive():
                deploying.join(300)

        def everything_shown():
            for browser in browsers:
                browser.collect()
            heads = {text: application.accepted[user][-1] for text, user in zip(texts, users)}
            return all(any(heads[browser.token] in (data or "") for _, _, data in browser.story[-3:]) for browser in browsers)

        live(everything_shown, "the last write at every browser", 60)
        for browser in browsers:
            browser.check(application.accepted[users[texts.index(browser.token)]])
        print(f"{sum(len(ids) for ids in application.accepted.values())} writes, repeated: {dict(application.reasons)}; "
              f"{sum(browser.reconnects for browser in browsers)} reconnects of {len(browsers)} browsers")
        assert application.wrong == [], application.wrong[:3]
        for text, user in zip(texts, users):
            ids = application.accepted[user]
            assert len(set(ids)) == len(ids)
            assert call("GET", "/v1/notifications/count", text).json()["unread"] >= len(ids)
    eventually(lambda: local("status"), "the whole cluster")
