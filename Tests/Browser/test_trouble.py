"""Nodes that die, networks that come and go, proxies that hold back: nothing is missing afterwards, and nothing is there twice."""

import datetime
import time

import test_socketio
from browser import streams_of
from harness import eventually


def with_client(browser, site, user, **options):
    return browser.open("about:blank").client(site, user, **options).is_open()


def without(browser, site, user):
    tab = browser.open(f"{site.url}/site/eventsource.html", user=user.name)
    tab.until("the stream is open", "window.opened", lambda opened: opened == 1)
    return tab


def both_show(client, bare, expected):
    client.until(f"the client has shown {expected}", "arrived", lambda arrived: arrived == expected)
    bare.until(f"EventSource has shown {expected}", "events.filter(text => !text.startsWith('close'))", lambda events: events == expected)
    # And it is no resync that brought the list up to date.
    client.titles(expected[::-1])


def test_errors_of_a_proxy_are_outlived(browser, site, cluster, user):
    tab = with_client(browser, site, user, times={"retry": 100})
    site.refuse("GET", "/v1/notifications/sse", 502, times=2)
    site.cut()
    cluster.notify(user, title="meanwhile")
    tab.until("it has arrived", "arrived", lambda arrived: arrived == ["meanwhile"])
    tab.is_open()
    assert site.count("GET", "/v1/notifications/sse") >= 4
    assert tab.value("client.getState().error") is None


def test_offline_and_back(browser, site, cluster, user):
    tab = with_client(browser, site, user)
    tab.offline(True)
    tab.until("it knows", "client.getState().status", lambda status: status == "offline")
    cluster.notify(user, title="meanwhile")
    assert tab.value("attempt(client.markAllRead())") == "0 null"
    asked = site.count("GET", "/v1/notifications/sse")
    tab.offline(False)
    tab.until("it has arrived", "arrived", lambda arrived: arrived == ["meanwhile"])
    tab.is_open()
    assert site.count("GET", "/v1/notifications/sse") > asked
    assert tab.value("client.getState().unread") == 1


def test_a_stream_that_is_silent_is_given_up(browser, site, cluster, user):
    tab = with_client(browser, site, user, times={"silence": 3000, "retry": 100})
    site.freeze()
    cluster.notify(user, title="meanwhile")
    tab.until("it has arrived", "arrived", lambda arrived: arrived == ["meanwhile"])
    tab.titles(["meanwhile"])


def test_a_proxy_that_buffers_is_got_through_by_long_polls(browser, site, cluster, user, admin):
    cluster.notify(user, title="before")
    site.buffers = True
    tab = browser.open("about:blank").client(site, user, times={"first": 1000, "polling": 4000, "retry": 100})
    tab.until("it asks instead", "typeof client === 'object' && client.getState().status", lambda status: status == "polling")
    cluster.notify(user, title="one")
    tab.titles(["one", "before"])
    user.write("POST", "/read-all")
    tab.until("so do changes", "client.getState().unread", lambda unread: unread == 0)
    cluster.notify(user, title="two")
    tab.until("each arrives once", "arrived", lambda arrived: arrived == ["one", "two"])
    assert tab.value("client.getState().error") is None
    # A while later a stream is tried again.
    site.buffers = False
    cluster.notify(user, title="three")
    tab.is_open()
    tab.until("each arrives once", "arrived", lambda arrived: arrived == ["one", "two", "three"])
    eventually("there is one stream", lambda: len(streams_of(admin, user)) == 1)


def test_tokens_are_renewed_on_the_open_stream(browser, site, cluster, user, admin):
    tab = with_client(browser, site, user, ttl="12s,1h")
    [stream] = streams_of(admin, user)
    eventually("it has been renewed", lambda: site.count("POST", "/v1/notifications/stream-renew") == 1)
    opened = datetime.datetime.fromisoformat(stream["since"])
    eventually("its first token has ended", lambda: datetime.datetime.now(datetime.UTC) - opened > datetime.timedelta(seconds=13))
    [still] = streams_of(admin, user)
    assert still["connection_id"] == stream["connection_id"]
    assert set(tab.value("states")) <= {"connecting", "open"}
    assert site.tokens_made_for(user) == 2
    cluster.notify(user, title="after")
    tab.titles(["after"])


def test_a_stream_that_ends_with_its_token_is_opened_with_a_fresh_one(browser, site, cluster, user, admin):
    tab = with_client(browser, site, user, ttl="6s", times={"retry": 100})
    [stream] = streams_of(admin, user)
    site.refuse("POST", "/v1/notifications/stream-renew", 403, times=100)

    def another():
        streams = streams_of(admin, user)
        return streams and streams[0]["connection_id"] != stream["connection_id"]

    eventually("another stream is open", another)
    cluster.notify(user, title="after")
    tab.titles(["after"])


def test_a_client_that_is_evicted_waits_until_it_is_looked_at(browser, site, cluster, user, admin):
    tab = with_client(browser, site, user)
    streams = [user.stream() for _ in range(10)]
    for stream in streams:
        stream.ready()
    tab.until("it has to go", "client.getState().status", lambda status: status == "evicted")
    asked = site.count("GET", "/v1/notifications/sse")
    for stream in streams:
        stream.close()
    eventually("the others are gone", lambda: streams_of(admin, user) == [])
    cluster.notify(user, title="meanwhile")
    assert site.count("GET", "/v1/notifications/sse") == asked, "it came back by itself"
    tab.run("dispatchEvent(new Event('focus'))")
    tab.is_open().titles(["meanwhile"])


def test_a_killed_edge(browser, site, cluster, user, admin):
    client, bare = with_client(browser, site, user), without(browser, site, user)
    for edge in {stream["node"] for stream in streams_of(admin, user)}:
        cluster.notify(user, title=f"before {edge}")
        cluster.local("kill", edge)
        cluster.notify(user, title=f"after {edge}")
        cluster.local("start", edge)
    expected = [item["title"] for item in user.list(order="newest")["data"]][::-1]
    both_show(client, bare, expected)


def test_socket_io_comes_back_by_itself_where_it_was(browser, site, cluster, user, admin):
    tab = test_socketio.connected(browser, site, cluster, user, reconnectionDelay=100)
    cluster.notify(user, title="before")
    test_socketio.titles(tab, ["before"])
    [stream] = streams_of(admin, user)
    cluster.local("kill", stream["node"])
    cluster.notify(user, title="meanwhile")
    cluster.local("start", stream["node"])
    test_socketio.titles(tab, ["before", "meanwhile"])
    cluster.notify(user, title="after")
    test_socketio.titles(tab, ["before", "meanwhile", "after"])
    cluster.make_whole()


def test_all_edges_gone_for_ten_seconds(browser, site, cluster, user):
    client, bare = with_client(browser, site, user, times={"retry": 100}), without(browser, site, user)
    for edge in ("edge-1", "edge-2"):
        cluster.local("kill", edge)
    gone = time.monotonic()
    cluster.notify(user, title="nobody listens")
    # The load balancer answers in their place: come again.
    bare.until("EventSource has been sent away, and again", "events.length", lambda count: count >= 2)
    client.until("the client says so", "states", lambda states: "reconnecting" in states)
    cluster.notify(user, title="nor now")
    eventually("ten seconds are over", lambda: time.monotonic() - gone >= 10, pause=0.5)
    cluster.make_whole()
    both_show(client, bare, ["nobody listens", "nor now"])
    client.is_open()


def test_all_nodes_start_again(browser, site, cluster, user):
    cluster.notify(user, title="before")
    client, bare = with_client(browser, site, user), without(browser, site, user)
    for name in ("api-1", "api-2", "edge-1", "edge-2", "worker-1"):
        cluster.local("kill", name)
    failed = client.value("attempt(client.markAllRead())")
    assert failed in ("0 null", "503 notifications_m.unavailable"), failed
    assert client.value("client.getState().unread") == 1
    cluster.make_whole()
    cluster.notify(user, title="after")
    both_show_after = ["after"]
    client.until("the client has it", "arrived", lambda arrived: arrived == both_show_after)
    bare.until("EventSource has it", "events.filter(text => !text.startsWith('close'))", lambda events: events == both_show_after)
    client.titles(["after", "before"])
    client.run("await client.markAllRead()")
    assert user.count()["unread"] == 0
