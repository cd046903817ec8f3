"""Several tabs: one stream for all of them, handed over when its tab goes."""

import threading

from browser import streams_of
from harness import eventually


def tabs_of(browser, site, user, count, **options):
    """The first one leads: it is open before the next one begins."""
    tabs = []
    for _ in range(count):
        tabs.append(browser.open("about:blank").client(site, user, **options))
        tabs[-1].is_open()
    return tabs


def test_two_tabs_share_one_stream(browser, site, cluster, user, admin):
    first, second = tabs_of(browser, site, user, 2)
    assert [tab.value("client.leads") for tab in (first, second)] == [True, False]
    assert len(streams_of(admin, user)) == 1
    cluster.notify(user, title="one")
    for tab in (first, second):
        tab.titles(["one"])
        assert tab.value("arrived") == ["one"]
    # What one tab does the other shows.
    second.run("await client.markRead(client.getState().notifications[0].id)")
    first.until("it is read here, too", "client.getState().unread", lambda unread: unread == 0)
    second.run("await client.preferences.set({channels: {sms: false}})")
    first.until("so are preferences", "client.getState().preferences", lambda known: known == {"channels": {"sms": False}})
    assert len(streams_of(admin, user)) == 1


def test_the_stream_is_handed_over_without_a_seam(browser, site, cluster, user, admin):
    tabs = tabs_of(browser, site, user, 4)
    expected = [str(number) for number in range(100)]
    sender = threading.Thread(target=lambda: [cluster.notify(user, title=title) for title in expected])
    sender.start()
    # The one that holds the stream is closed, twice, and once it is reloaded.
    for _ in range(2):
        [leader] = [tab for tab in tabs if tab.value("client.leads")]
        leader.close()
        tabs.remove(leader)
        eventually("another has taken over", lambda: any(tab.value("client.leads") for tab in tabs))
    last = tabs[-1]
    sender.join()
    cluster.notify(user, title="last")
    for tab in tabs:
        tab.until("the last one has arrived", "arrived.at(-1)", lambda title: title == "last")
        arrived = tab.value("arrived")
        assert arrived == [*expected, "last"], f"missing or twice: {sorted(set(expected) ^ set(arrived))}"
    assert len(streams_of(admin, user)) == 1
    assert last.value("client.getState().unread") == 101


def test_a_leader_that_is_frozen_is_replaced(browser, site, cluster, user, admin):
    leader, other = tabs_of(browser, site, user, 2)
    # As a tab whose scripts the browser no longer runs: it holds the lock and says nothing.
    leader.run("BroadcastChannel.prototype.postMessage = () => {}")
    cluster.notify(user, title="unheard")
    leader.titles(["unheard"])
    other.run("document.dispatchEvent(new Event('visibilitychange'))")
    other.until("it has taken the stream", "client.leads")
    other.titles(["unheard"])
    leader.until("the other has let go", "client.leads", lambda leads: not leads)
    eventually("there is one stream", lambda: len(streams_of(admin, user)) == 1)


def test_users_and_rights_do_not_share(browser, site, cluster, user, admin):
    other = cluster.fresh_user()
    mine = browser.open("about:blank").client(site, user).is_open()
    theirs = browser.open("about:blank").client(site, other).is_open()
    narrowed = browser.open("about:blank").client(site, user, customer="acme").is_open()
    cluster.notify(user, title="for one")
    mine.titles(["for one"])
    cluster.notify(user, title="for acme", customer_id="acme")
    narrowed.titles(["for acme"])
    cluster.notify(other, title="for the other")
    theirs.titles(["for the other"])
    assert theirs.value("arrived") == ["for the other"]
    assert narrowed.value("arrived") == ["for acme"]
    assert [len(streams_of(admin, each)) for each in (user, other)] == [2, 1]


def test_tabs_without_locks_have_a_stream_each(browser, site, cluster, user, admin):
    tabs = []
    for missing in ("Navigator.prototype.locks", "window.BroadcastChannel"):
        tab = browser.open("about:blank")
        tab.devtools("Page.addScriptToEvaluateOnNewDocument", source=f"delete {missing}")
        tabs.append(tab.client(site, user).is_open())
    assert len(streams_of(admin, user)) == 2
    cluster.notify(user, title="one")
    for tab in tabs:
        tab.titles(["one"])


def test_seven_tabs_work_over_http_1(browser, site, cluster, user, admin):
    """Six connections to a host are all that a browser opens."""
    tabs = tabs_of(browser, site, user, 7)
    assert tabs[-1].run("return (await fetch('/openapi.json')).status") == 200
    assert tabs[0].run("return performance.getEntriesByType('navigation')[0].nextHopProtocol") == "http/1.1"
    assert len(streams_of(admin, user)) == 1
    cluster.notify(user, title="for seven")
    for tab in tabs:
        tab.titles(["for seven"])
    tabs[-1].run("await client.markRead(client.getState().notifications[0].id)")
    for tab in tabs:
        tab.until("all know", "client.getState().unread", lambda unread: unread == 0)
