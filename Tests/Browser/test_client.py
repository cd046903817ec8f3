"""The client in one tab: the list and the stream, actions that show at once, reloads."""

import threading

from browser import streams_of
from harness import eventually


def page(browser, site, user, **options):
    return browser.open("about:blank").client(site, user, **options).is_open()


def test_it_shows_the_list_and_what_arrives(browser, site, cluster, user):
    cluster.notify(user, title="Before")
    tab = page(browser, site, user)
    tab.titles(["Before"])
    cluster.notify(user, title="After")
    tab.titles(["After", "Before"])
    assert tab.value("arrived") == ["After"]
    assert tab.value("client.getState().unread") == 2
    assert tab.complaints() == []


def test_actions_show_at_once_and_stay(browser, site, cluster, user):
    for title in ("one", "two", "three"):
        cluster.notify(user, title=title)
    tab = page(browser, site, user)
    tab.titles(["three", "two", "one"])
    # In the same turn, before any request has been answered.
    counts = tab.run("""
        const counts = [];
        const note = () => Promise.resolve().then(() => counts.push(client.getState().unread));
        const [three, two] = client.getState().notifications;
        const done = [client.markRead(three.id)];
        await note();
        done.push(client.remove(two.id));
        await note();
        await Promise.all(done);
        counts.push(client.getState().unread);
        return counts;
    """)
    assert counts == [2, 1, 1]
    tab.titles(["three", "one"])
    eventually("the service has it, too", lambda: [item["read"] for item in user.list(order="newest")["data"]] == [True, False])
    tab.run("await client.markAllRead()")
    assert tab.value("client.getState().unread") == 0
    tab.run("await client.markUnread(client.getState().notifications[1].id)")
    tab.until("one is unread again", "client.getState().unread", lambda unread: unread == 1)
    tab.run("await client.archive(client.getState().notifications[0].id)")
    tab.titles(["one"])
    tab.run("await client.setFilter({archived: true})")
    tab.titles(["three"])
    assert user.count()["unread"] == 1
    # What was taken for granted was what came: the counts agree without reloading.
    cluster.notify(user, title="four")
    tab.until("the count has followed", "client.getState().unread", lambda unread: unread == 2)
    tab.titles(["three"])


def test_what_fails_is_taken_back(browser, site, cluster, user):
    cluster.notify(user, title="one")
    tab = page(browser, site, user)
    site.refuse("PATCH", "/v1/notifications/", 500, times=3)
    result = tab.run("""
        const [item] = client.getState().notifications;
        const tried = attempt(client.markRead(item.id));
        await Promise.resolve();
        const shown = client.getState().unread;
        return [shown, await tried, client.getState().unread, client.getState().notifications[0].read];
    """)
    assert result == [0, "500 null", 1, False]
    site.refuse("DELETE", "/v1/notifications/", 403)
    assert tab.value("attempt(client.remove(client.getState().notifications[0].id))") == "403 null"
    tab.titles(["one"])
    # One that passes is tried again by itself.
    site.refuse("PATCH", "/v1/notifications/", 503)
    assert tab.value("attempt(client.markRead(client.getState().notifications[0].id))") is None
    assert user.count()["unread"] == 0


def test_seen_is_counted(browser, site, cluster, user):
    tab = page(browser, site, user)
    for title in ("one", "two"):
        cluster.notify(user, title=title)
    tab.until("two are unseen", "client.getState().unseen", lambda unseen: unseen == 2)
    tab.run("await client.markSeen()")
    assert tab.value("[client.getState().unseen, client.getState().unread]") == [0, 2]
    assert user.count()["unseen"] == 0


def test_pages_follow_and_memory_is_bounded(browser, site, cluster, user):
    for number in range(25):
        cluster.notify(user, title=str(number))
    tab = page(browser, site, user, pageSize=5, maximum=20)
    for last in (19, 14, 9):
        tab.titles([str(number) for number in range(24, last, -1)])
        tab.run("await client.loadMore()")
    tab.titles([str(number) for number in range(24, 4, -1)])
    assert tab.value("client.getState().hasMore") is False, "there is no room for more"
    cluster.notify(user, title="25")
    tab.titles([str(number) for number in range(25, 5, -1)])
    # With room again, the list goes on where it was cut.
    tab.run("await Promise.all(client.getState().notifications.slice(0, 8).map(item => client.remove(item.id)))")
    tab.until("the list goes on", "client.getState().hasMore")
    tab.run("await client.loadMore()")
    tab.until("what was cut off is back", "titles()", lambda titles: titles == [str(number) for number in range(17, -1, -1)][: len(titles)] and len(titles) > 12)


def test_filters_hold_for_what_arrives(browser, site, cluster, user):
    tab = page(browser, site, user, filter={"type": "chat", "status": "unread"})
    cluster.notify(user, title="system")
    cluster.notify(user, title="chat", type="chat")
    tab.titles(["chat"])
    tab.until("both are counted", "client.getState().unread", lambda unread: unread == 2)
    user.write("POST", f"/{user.list(type='chat')['data'][0]['id']}/read")
    tab.titles([])


def test_a_reload_misses_nothing_and_shows_nothing_twice(browser, site, cluster, user):
    tab = page(browser, site, user)
    expected = [str(number) for number in range(60)]
    sender = threading.Thread(target=lambda: [cluster.notify(user, title=title) for title in expected])
    sender.start()
    while sender.is_alive():
        tab.reload()
        tab.until("the page has a list", "typeof client === 'object' && client.getState().isLoaded")
    sender.join()
    tab.is_open()
    cluster.notify(user, title="last")
    tab.until("the last one is there", "titles()[0]", lambda title: title == "last")
    # A page has 50 of them.
    shown = tab.value("titles()")
    assert len(set(shown)) == len(shown)
    assert shown == (["last"] + expected[::-1])[: len(shown)] and len(shown) >= 50


def test_direct_events_arrive_and_are_in_no_list(browser, site, cluster, user):
    tab = page(browser, site, user)
    answer = cluster.http.post(
        f"{cluster.url}/v1/notifications/sse", json={"title": "Bob is typing", "user_ids": [user.name]}, headers=cluster.application
    )
    assert answer.status_code == 200
    tab.until("it has arrived", "arrived", lambda arrived: arrived == ["Bob is typing"])
    tab.titles([])
    assert tab.value("client.getState().unread") == 0


def test_preferences_are_read_and_merged(browser, site, cluster, user):
    tab = page(browser, site, user)
    assert tab.run("return client.preferences.get()") == {}
    assert tab.run("return client.preferences.set({channels: {email: false}})") == {"channels": {"email": False}}
    assert tab.run("return client.preferences.set({types: {chat: {channels: {sms: true}}}})") == {
        "channels": {"email": False}, "types": {"chat": {"channels": {"sms": True}}},
    }  # fmt: skip
    assert tab.value("client.getState().preferences") == user.get("/preferences")
    assert tab.value("attempt(client.preferences.set({channels: {pigeon: true}}))").startswith("422")


def test_a_list_that_cannot_be_loaded_is_loaded_later(browser, site, cluster, user):
    cluster.notify(user, title="one")
    site.refuse("GET", "/v1/notifications", 502, times=4)
    tab = page(browser, site, user)
    tab.titles(["one"])


def test_an_inbox_that_is_erased_or_starts_anew_is_loaded_anew(browser, site, cluster, user, admin):
    cluster.notify(user, title="one")
    tab = page(browser, site, user)
    assert cluster.http.delete(f"{cluster.url}/v1/admin/users/{user.name}", headers=cluster.application).status_code == 204
    tab.titles([])
    cluster.notify(user, title="another life")
    tab.titles(["another life"])
    assert tab.value("client.getState().unread") == 1


def test_a_closed_client_lets_its_stream_go(browser, site, cluster, user, admin):
    tab = page(browser, site, user)
    assert len(streams_of(admin, user)) == 1
    tab.run("client.close()")
    eventually("the stream is closed", lambda: streams_of(admin, user) == [])
    assert tab.value("client.getState().status") == "closed"


def test_refused_tokens_are_replaced(browser, site, cluster, user):
    """One that the service no longer takes: the token function is asked for another."""
    cluster.notify(user, title="one")
    tab = page(browser, site, user)
    made = site.tokens_made_for(user)
    site.refuse("POST", "/v1/notifications/seen", 401)
    tab.run("await client.markSeen()")
    assert site.tokens_made_for(user) == made + 1
    assert user.count()["unseen"] == 0


def test_another_user_s_token_ends_it(browser, site, cluster, user, admin):
    """What was one user's is not shown to the next, and the next one's feed is not mixed into it."""
    other = cluster.fresh_user()
    cluster.notify(user, title="for the first")
    tab = page(browser, site, user)
    tab.titles(["for the first"])
    streams = site.count("GET", "/v1/notifications/sse")
    tab.run(f"window.signedIn = {other.name!r}")
    site.refuse("POST", "/v1/notifications/seen", 401)
    tab.run("await attempt(client.markSeen())")
    assert tab.value("[client.getState().status, client.getState().error.code]") == ["closed", "carillon.other_user"]
    assert tab.value("[client.getState().notifications, client.getState().unread, client.getState().preferences]") == [[], 0, None]
    eventually("its stream is closed", lambda: streams_of(admin, user) == [])
    cluster.notify(other, title="for the second")
    assert [site.count("GET", "/v1/notifications/sse"), site.count("POST", "/v1/notifications/stream-renew")] == [streams, 0]
    assert tab.value("arrived") == [] and other.count()["unseen"] == 1


def test_what_arrives_while_the_list_is_loaded_is_announced(browser, site, cluster, user):
    tab = page(browser, site, user)
    site.refuse("GET", "/v1/notifications", 502, times=2)
    tab.run("window.loaded = client.reload()")
    eventually("it is being loaded", lambda: site.count("GET", "/v1/notifications") > 3)
    cluster.notify(user, title="meanwhile")
    tab.run("await loaded")
    tab.titles(["meanwhile"])
    tab.until("it is announced", "arrived", lambda arrived: arrived == ["meanwhile"])
    cluster.notify(user, title="after")
    tab.until("once", "arrived", lambda arrived: arrived == ["meanwhile", "after"])


def test_a_listener_that_throws_disturbs_nobody_else(browser, site, cluster, user):
    tab = page(browser, site, user)
    streams = site.count("GET", "/v1/notifications/sse")
    tab.run("""
        window.reported = [];
        addEventListener('error', event => { reported.push(event.message); event.preventDefault(); });
        const broken = () => { throw new Error('broken'); };
        client.onNotification(broken);
        client.subscribe(broken);
        window.later = [];
        client.onNotification(notification => later.push(notification.title));
        client.subscribe(state => window.told = state.unread);
    """)
    for number, title in enumerate(("one", "two")):
        cluster.notify(user, title=title)
        tab.until("the others are told", "[later.length, window.told]", lambda told, number=number: told == [number + 1, number + 1])
    assert site.count("GET", "/v1/notifications/sse") == streams, "the stream is the same"
    assert len(tab.value("reported")) >= 4, "the page hears of it as of any other error"


def test_all_seen_by_a_token_for_one_customer_leaves_the_others(browser, site, cluster, user):
    for customer in ("a", "b", None):
        cluster.notify(user, title=str(customer), customer_id=customer)
    tab = page(browser, site, user)
    narrow = cluster.user(user.name, "--customer", "a")
    narrow.write("POST", "/seen")
    # Of that customer and of none.
    tab.until("they are seen", "client.getState().unseen", lambda unseen: unseen == 1)
    assert tab.value("client.getState().notifications.map(item => item.seen)") == [True, False, True]
    assert user.count()["unseen"] == 1
