"""More tabs without the client than a user may have streams: the oldest goes, and they do not drive each other out in turn."""

import time

import pytest

from browser import streams_of
from harness import eventually

TABS = 11


def evicted(cluster):
    total = 0
    for edge in cluster.edges:
        [line] = [line for line in cluster.http.get(f"{edge}/metrics").text.splitlines() if line.startswith("carillon_streams_evicted_total ")]
        total += float(line.split()[1])
    return total


@pytest.fixture(scope="module")
def crowd():
    return {}


def test_the_oldest_of_eleven_goes(browser, site, cluster, admin, crowd):
    user = cluster.fresh_user()
    crowd.update(user=user, evicted=evicted(cluster), tabs=[], at=time.monotonic())
    for number in range(TABS):
        # A browser opens six connections to a host, so each tab has a host of its own.
        tab = browser.open(f"http://tab-{number}.localhost:{site.port}/site/eventsource.html", user=user.name)
        browser.keep(tab)
        crowd["tabs"].append(tab)
        tab.until("the stream is open", "window.opened", lambda opened: opened == 1)
    crowd["tabs"][0].until("the oldest has to go", "events", lambda events: events == ['close {"reason":"evicted"}'])
    assert len(streams_of(admin, user)) == TABS - 1


def test_the_oldest_is_told_to_stay_away(browser, site, cluster, admin, crowd):
    """Its own reconnect comes after a minute, in which the other tests run."""
    first, *others = crowd["tabs"]
    first.until("its EventSource has given up", "source.readyState", lambda state: state == 2, timeout=90)
    assert time.monotonic() - crowd["at"] >= 60, "it came back at once"
    cluster.notify(crowd["user"], title="for ten")
    for tab in others:
        tab.until("it is there", "events", lambda events: events == ["for ten"])
        assert tab.value("window.opened") == 1
    assert len(streams_of(admin, crowd["user"])) == TABS - 1
    assert evicted(cluster) - crowd["evicted"] == 1
    browser.let_go()
    browser.close_tabs()
    eventually("their streams are closed", lambda: streams_of(admin, crowd["user"]) == [])
