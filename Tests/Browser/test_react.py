"""The hook and the components, with React 18 as Debian ships it, and with React 19 as Dash does."""

import pytest
from selenium.webdriver.common.keys import Keys

from browser import streams_of
from harness import eventually


@pytest.fixture(params=["18", "19"])
def react(request):
    return request.param


def app(browser, site, user, react):
    tab = browser.open(f"{site.url}/site/react.html", user=user.name, react=react)
    tab.until("the hook is there", "typeof inbox === 'object' && inbox.status", lambda status: status == "open")
    return tab


def line(tab, expected):
    tab.until(f"it says {expected}", "document.getElementById('line').innerText", lambda text: text == expected)


def test_the_hook_from_mount_to_unmount(browser, site, cluster, user, admin, react):
    cluster.notify(user, title="Before")
    tab = app(browser, site, user, react)
    assert tab.value("React.version").startswith(f"{react}.")
    line(tab, "open 1: Before*")
    cluster.notify(user, title="After")
    line(tab, "open 2: After*, Before*")
    # StrictMode mounts twice; there is one stream and one region of toasts all the same.
    assert len(streams_of(admin, user)) == 1
    assert len(tab.all(".carillon-toasts")) == 1
    tab.run("await inbox.markRead(inbox.notifications[1].id)")
    line(tab, "open 1: After*, Before")
    tab.run("await inbox.markAllRead()")
    line(tab, "open 0: After, Before")
    tab.run("await inbox.remove(inbox.notifications[0].id)")
    line(tab, "open 0: Before")
    assert tab.run("return inbox.setPreferences({channels: {email: true}})") == {"channels": {"email": True}}
    assert tab.value("inbox.preferences") == {"channels": {"email": True}}
    assert [user.count()["unread"], user.get("/preferences")] == [0, {"channels": {"email": True}}]
    tab.run("unmount()")
    eventually("the stream is closed", lambda: streams_of(admin, user) == [])
    assert tab.all(".carillon-toasts") == []
    assert tab.complaints() == []


def test_new_ones_are_announced(browser, site, cluster, user, react):
    tab = app(browser, site, user, react)
    cluster.notify(user, title="Read me", link_url="/somewhere", link_text="Go")
    tab.until("a toast", "document.querySelector('[aria-live=polite] .carillon-toast strong')?.innerText", lambda text: text == "Read me")
    cluster.notify(user, title="At once", priority="URGENT")
    tab.until("an urgent one", "document.querySelector('[aria-live=assertive] .carillon-toast strong')?.innerText", lambda text: text == "At once")
    tab.run("document.querySelector('[aria-label=\"Dismiss: Read me\"]').click()")
    tab.until("it is gone", "document.querySelectorAll('.carillon-toast').length", lambda count: count == 1)
    assert user.count()["unread"] == 2, "dismissing is not reading"


def test_the_bell_by_keyboard(browser, site, cluster, user, react):
    cluster.notify(user, title="One", content="With words", link_url="https://example.com/one")
    tab = app(browser, site, user, react)
    assert tab.text(".carillon-badge") == "1"
    tab.press(Keys.TAB)
    assert tab.value("document.activeElement.getAttribute('aria-label')") == "Notifications, 1 unread"
    tab.press(Keys.ENTER)
    tab.until("the centre is open", "document.querySelector('.carillon-centre h2')?.innerText", lambda text: text == "Notifications")
    eventually("opening it means seen", lambda: user.count()["unseen"] == 0)
    for _ in range(10):
        tab.press(Keys.TAB)
        if tab.value("document.activeElement.getAttribute('aria-label')") == "Mark read: One":
            break
    tab.press(Keys.SPACE)
    tab.until("it is read", "inbox.unread", lambda unread: unread == 0)
    tab.press(Keys.ESCAPE)
    tab.until("the centre is closed", "document.querySelector('.carillon-centre')", lambda found: found is None)
    assert tab.value("document.activeElement.className") == "carillon-bell"


def test_preferences_are_chosen(browser, site, cluster, user, react):
    tab = app(browser, site, user, react)
    tab.until("the form is there", "document.querySelectorAll('.carillon-preferences select').length", lambda count: count == 6)
    tab.run("""
        const select = [...document.querySelectorAll('.carillon-preferences select')][4];
        Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value').set.call(select, 'false');
        select.dispatchEvent(new Event('change', {bubbles: true}));
    """)
    tab.until("it is saved", "document.querySelector('.carillon-preferences [role=status]').innerText", lambda text: text == "Saved.")
    assert user.get("/preferences") == {"types": {"chat": {"channels": {"email": False}}}}


def test_another_user_s_token_is_another_inbox(browser, site, cluster, user, admin, react):
    """The provider connects anew."""
    other = cluster.fresh_user()
    cluster.notify(user, title="One")
    cluster.notify(other, title="Two")
    tab = app(browser, site, user, react)
    line(tab, "open 1: One*")
    tab.run(f"window.signedIn = {other.name!r}")
    site.refuse("POST", "/v1/notifications/seen", 401)
    tab.run("await inbox.markSeen()")
    line(tab, "open 1: Two*")
    eventually("the first one's stream is closed", lambda: streams_of(admin, user) == [])
    assert len(tab.all(".carillon-toasts")) == 1
