"""Socket.IO's own client, in a browser, as a ready-made file ships with a package of PyPI (NiceGUI's)."""

import json

from browser import streams_of
from harness import eventually


def connected(browser, site, cluster, user, **options):
    tab = browser.open(f"{site.url}/site/socketio.html", service=cluster.url, token=user.token)
    tab.run(f"start({json.dumps(options)})")
    tab.until("it is connected", "socket.connected && seen.some(([name]) => name === 'ready')")
    return tab


def titles(tab, expected):
    tab.until(f"it was told {expected}", "seen.filter(([name]) => name === 'notification').map(([, data]) => data.title)", lambda shown: shown == expected)


def test_it_upgrades_and_is_told_everything(browser, site, cluster, user, admin):
    tab = connected(browser, site, cluster, user)
    tab.until("it has upgraded", "socket.io.engine.transport.name", lambda name: name == "websocket")
    assert [stream["transport"] for stream in streams_of(admin, user)] == ["socketio"]
    made = cluster.notify(user, title="Grüße 🔔")
    user.write("PATCH", f"/{made['id']}/read")
    cluster.notify(user, title="two")
    user.write("POST", "/read-all")
    user.write("DELETE", f"/{made['id']}")
    expected = ["ready", "notification", "notification:update", "notification", "notification:read_all", "notification:delete"]
    tab.until("all of it", "seen.map(([name]) => name)", lambda names: names == expected)
    titles(tab, ["Grüße 🔔", "two"])
    assert tab.value("seen.at(-1)[1].id") == made["id"]
    tab.run("socket.disconnect()")
    eventually("its place is free", lambda: streams_of(admin, user) == [])
    assert tab.complaints() == []


def test_polling_alone(browser, site, cluster, user):
    tab = connected(browser, site, cluster, user, transports=["polling"])
    for title in ("one", "two", "three"):
        cluster.notify(user, title=title)
    titles(tab, ["one", "two", "three"])
    assert tab.value("socket.io.engine.transport.name") == "polling"


def test_a_token_that_is_refused_is_told(browser, site, cluster, user):
    tab = browser.open(f"{site.url}/site/socketio.html", service=cluster.url, token="nonsense")
    tab.run("start({})")
    tab.until("the error says why", "window.refused", lambda data: bool(data) and data["status"] == 401 and data["code"].endswith("invalid_user_id"))
