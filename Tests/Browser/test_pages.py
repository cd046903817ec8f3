"""The demo page and the console: what they do, by mouse and by keyboard alone, and that axe finds nothing against them."""

import os
import subprocess
from pathlib import Path

import axe_core_python
import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from harness import PATIENCE, eventually, free_port, problem, tolerant

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
LOOKS = {"light": ("light", 1200), "dark": ("dark", 1200), "phone": ("light", 375), "dark phone": ("dark", 375)}


def axe(tab):
    """What axe-core says is wrong with the page as it stands."""
    tab.driver.execute_script(AXE)
    results = tab.run("return axe.run(document, {resultTypes: ['violations']})")
    assert len(results["passes"]) > 10, "axe looked at nothing"
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in results["violations"] for node in rule["nodes"]]


def has_room(tab):
    """Nothing sticks out to the right."""
    return tab.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


# --- The demo ------------------------------------------------------------------------------------------------------------


def demo(browser, cluster, user, **query):
    tab = browser.open(f"{cluster.url}/demo", user=user.name, **query)
    tab.until("it is live", "document.getElementById('status')?.dataset.status", lambda status: status == "open")
    return tab


def titles(tab, expected):
    tab.until(f"the list is {expected}", "[...document.querySelectorAll('#list strong')].map(each => each.innerText)", lambda shown: shown == expected)


def test_the_demo_sends_and_shows(browser, cluster, user):
    other = cluster.fresh_user()
    tab = demo(browser, cluster, user, other=other.name)
    tab.find("#title").clear()
    tab.find("#title").send_keys("Hello")
    tab.click("#send .main")
    titles(tab, ["Hello"])
    tab.until("a toast", "document.querySelector('.carillon-toast strong')?.innerText", lambda text: text == "Hello")
    assert tab.text("#badge") == "1"
    # To the one in the frame.
    tab.click("#other")
    tab.until("the frame has it", "document.getElementById('frame').contentDocument.querySelector('#list strong')?.innerText", lambda text: text == "Hello")
    tab.click("[data-action='Mark read']")
    tab.until("it is read", "document.getElementById('badge').hidden")
    tab.click("[data-action='Archive']")
    titles(tab, [])
    tab.click("[data-filter='archived']")
    titles(tab, ["Hello"])
    tab.click("[data-action='Delete']")
    titles(tab, [])
    eventually("it is deleted", lambda: user.list(archived="all")["data"] == [])
    tab.click("[data-filter='all']")
    tab.click("#ten")
    tab.until("ten", "document.querySelectorAll('.carillon-item').length", lambda count: count == 10)
    Select(tab.find("#type")).select_by_value("chat")
    titles(tab, [])
    Select(tab.find("#type")).select_by_value("")
    tab.click("#all-read")
    tab.until("none is unread", "document.getElementById('badge').hidden")
    Select(tab.find("select[name='chat:email']")).select_by_value("false")
    eventually("it is saved", lambda: user.get("/preferences") == {"types": {"chat": {"channels": {"email": False}}}})
    assert tab.complaints() == []


def test_the_list_goes_on_as_one_scrolls(browser, cluster, user):
    for number in range(75):
        cluster.notify(user, title=str(number))
    tab = demo(browser, cluster, user)
    count = "document.querySelectorAll('.carillon-item').length"
    tab.until("the first page", count, lambda count: count >= 30)

    def scrolled():
        tab.run("document.getElementById('centre').scrollTo(0, 1e6)")
        return tab.value(count) == 75

    eventually("all of them", scrolled)
    titles(tab, [str(number) for number in range(74, -1, -1)])


def test_e_mails_are_listed(browser, cluster, user):
    other = cluster.fresh_user()
    tab = demo(browser, cluster, user, other=other.name)
    tab.until("there is none", "document.getElementById('no-mails').checkVisibility()")
    tab.click("#by-email")
    tab.find("#title").clear()
    tab.find("#title").send_keys("<b>By e-mail</b>")
    tab.click("#send .main")
    tab.until("it is listed", "document.querySelector('#mails summary strong')?.innerText", lambda text: bool(text) and "<b>By e-mail</b>" in text)
    assert f"{user.name}@demo.example" in tab.text("#mails summary")
    tab.click("#mails summary")
    assert "Your container leaves Rotterdam" in tab.text("#mails pre")
    assert tab.value("document.getElementById('no-mails').checkVisibility()") is False
    # Its own only.
    assert cluster.http.get(f"{cluster.url}/demo/mails", params={"user": other.name}).json() == {"data": []}
    problem(cluster.http.get(f"{cluster.url}/demo/mails"), 422, "invalid_body")
    assert tab.complaints() == []


def test_the_demo_by_keyboard_alone(browser, cluster, user):
    for title in ("one", "two", "three"):
        cluster.notify(user, title=title)
    tab = demo(browser, cluster, user)
    titles(tab, ["three", "two", "one"])
    label = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
    seen = []

    def walk_to(name):
        for _ in range(40):
            if tab.value(label) == name:
                # What has the focus can be seen to have it.
                assert tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none", name
                return
            tab.press(Keys.TAB)
            seen.append(tab.value(label))
        raise AssertionError(f"{name} is not reached: {seen}")

    walk_to("To the notifications")
    tab.press(Keys.ENTER)
    tab.until("past the head", "document.activeElement.id", lambda name: name == "centre")
    walk_to("Mark read: three")
    tab.press(Keys.SPACE)
    tab.until("it is read", "document.getElementById('badge').innerText", lambda text: text == "2")
    # The row was made anew, and the focus is still at its button.
    tab.until("the focus has stayed", label, lambda name: name == "Mark unread: three")
    walk_to("Delete: three")
    tab.press(Keys.ENTER)
    titles(tab, ["two", "one"])
    tab.until("the focus is at the one in its place", label, lambda name: name and name.endswith(": two"))
    walk_to("Archive: two")
    tab.press(Keys.ENTER)
    titles(tab, ["one"])
    tab.run("document.getElementById('all-read').focus()")
    tab.press(Keys.ENTER)
    tab.until("all read", "document.getElementById('badge').hidden")
    tab.run("document.getElementById('title').focus()")
    tab.press(Keys.END, *[Keys.BACKSPACE] * len("Booking confirmed"), "by keyboard", Keys.ENTER)
    titles(tab, ["by keyboard", "one"])
    assert tab.complaints() == []


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_in_the_demo(browser, cluster, user, look):
    scheme, width = LOOKS[look]
    for level in ("INFO", "SUCCESS", "WARNING", "ERROR"):
        cluster.notify(user, title=f"About {level}", content="With " + "averylongwordwithoutanyspace" * 4, level=level, link_url="/demo")
    user.write("POST", f"/{user.ids(order='newest')[0]}/read")
    tab = demo(browser, cluster, user)
    tab.look(scheme, width)
    tab.until("the preferences are there", "document.querySelectorAll('#preferences select').length", lambda count: count == 12)
    cluster.notify(user, title="Toast", content="Bread", level="WARNING", link_url="/demo")
    # Its colours count once it stands still.
    tab.until("a toast", "document.querySelector('.carillon-toast')?.getAnimations().every(each => each.playState === 'finished') ?? false")
    assert axe(tab) == []
    assert has_room(tab)


# --- The console ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_node(cluster, tmp_path_factory):
    """A node that is API and edge at once, reached directly: only there the console has all of its figures."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "CARILLON_DATABASE_URL": cluster.database_url, "CARILLON_REDIS_URL": os.environ["CARILLON_REDIS_URL"],
        "CARILLON_NODE_NAME": "whole-1", "CARILLON_DRAIN_SECONDS": "0", "CARILLON_JWT_SECRET": "a secret that only these tests know, and long",
        "CARILLON_SECRETS_KEY": "a key that only these tests know, 32",
    }  # fmt: skip
    program = os.environ["CARILLON_BIN"]
    url = f"http://127.0.0.1:{port}"
    with open(tmp_path_factory.mktemp("node") / "log", "w") as log:
        node = subprocess.Popen([program, "serve", "--roles", "api,edge", "--port", str(port)], env=environment, stdin=subprocess.DEVNULL, stderr=log)
        try:
            eventually("the node is ready", tolerant(lambda: cluster.http.get(f"{url}/health/ready").json()["status"] == "ready"))
            token = subprocess.run([program, "token", "--user", "olga", "--role", "admin"], env=environment, capture_output=True, text=True, timeout=60)
            yield url, token.stdout.strip()
        finally:
            node.terminate()
            node.wait(PATIENCE)


def console(browser, url, token):
    tab = browser.open(f"{url}/console")
    tab.until("it asks for a token", "document.activeElement !== null && document.getElementById('token') !== null")
    tab.find("#token").send_keys(token)
    tab.find("#enter .main").click()
    return tab


def card(tab, title, what, is_right):
    return tab.until(what, f"document.querySelector('section[aria-label=\"{title}\"]')?.innerText", lambda text: bool(text) and is_right(text))


def test_the_console_wants_an_administrator(browser, cluster, user):
    tab = console(browser, cluster.url, user.token)
    tab.until("it says so", "document.getElementById('refused').innerText", lambda text: "role admin" in text)
    tab.find("#token").clear()
    tab.find("#token").send_keys("nonsense")
    tab.find("#enter .main").click()
    tab.until("it says so", "document.getElementById('refused').innerText", lambda text: "does not take" in text)
    assert tab.value("document.getElementById('board').childElementCount") == 0


def test_the_console_shows_what_there_is(browser, cluster, user, whole_node):
    url, token = whole_node
    with user.stream(cluster.edges[0]) as stream:
        stream.ready()
        tab = console(browser, url, token)
        card(tab, "Edges", "the edges", lambda text: "edge-1" in text and "edge-2" in text and "whole-1" in text)
        card(tab, "Connected users", "the user", lambda text: user.name in text)
        card(tab, "Queues", "the queues", lambda text: "jobs" in text and "scheduled" in text)
        card(tab, "Open streams", "how many", lambda text: text.split()[2].isdigit())
        cluster.notify(user, channels=["in_app", "email"])
        card(tab, "Last deliveries", "what became of the e-mail", lambda text: user.name in text)
        # A plot moves: it has more than one point after a while.
        tab.until("two readings", "document.querySelector('section[aria-label=\"Open streams\"] polyline')?.getAttribute('points').split(' ').length", lambda count: (count or 0) >= 2)
        tab.click(f"[aria-label='Disconnect: {user.name}']")
        eventually("the stream is closed", lambda: stream.is_over)
    tab.find("#leave").click()
    assert tab.value("document.getElementById('board').childElementCount") == 0
    assert tab.complaints() == []


def test_buttons_are_of_the_webhook_beside_them(browser, site, cluster):
    """Also of two with the same URL, when one goes."""
    ids = []
    for event in ("chat", "task"):
        answer = cluster.http.post(
            f"{cluster.url}/v1/webhooks", json={"url": "http://127.0.0.1:9/same", "events": [event], "customer_id": cluster.unique()}, headers=cluster.application
        )
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
    try:
        tab = console(browser, site.url, cluster.token("olga", "--role", "admin"))
        rows = "[...document.querySelectorAll('section[aria-label=Webhooks] tbody tr')].filter(row => row.innerText.includes('/same'))"
        events = tab.until("both", f"{rows}.map(row => row.children[1].innerText)", lambda events: sorted(events) == ["chat", "task"])
        # The first one's row goes; what is left is the other's.
        gone = ids.pop(["chat", "task"].index(events[0]))
        assert cluster.http.delete(f"{cluster.url}/v1/webhooks/{gone}", headers=cluster.application).status_code == 204
        tab.until("one", f"{rows}.map(row => row.children[1].innerText)", lambda left: left == events[1:])
        tab.run(f"{rows}[0].querySelector('button').click()")
        card(tab, "Attempts of a webhook", "it has made none", lambda text: "None." in text)
    finally:
        for each in ids:
            cluster.http.delete(f"{cluster.url}/v1/webhooks/{each}", headers=cluster.application)


def test_the_console_says_what_is_not_there(browser, cluster, whole_node):
    through_balancer = console(browser, cluster.url, cluster.token("olga", "--role", "admin"))
    card(through_balancer, "Fan-out at this node", "that it is kept back", lambda text: "Not available through the load balancer" in text)
    # Of an edge alone.
    tab = console(browser, cluster.edges[0], cluster.token("olga", "--role", "admin"))
    card(tab, "Edges", "that it has no such route", lambda text: "not the role api" in text)
    url, token = whole_node
    tab = console(browser, url, token)
    card(tab, "Fan-out at this node", "the figures", lambda text: "Not available" not in text and "p99" in text)


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_in_the_console(browser, cluster, whole_node, look):
    scheme, width = LOOKS[look]
    url, token = whole_node
    tab = browser.open(f"{url}/console")
    tab.look(scheme, width)
    assert axe(tab) == []
    tab.find("#token").send_keys(token)
    tab.find("#enter .main").click()
    card(tab, "Queues", "the queues", lambda text: "jobs" in text)
    tab.until("all is loaded", "document.getElementById('board').innerText", lambda text: "Loading" not in text)
    assert axe(tab) == []
    assert has_room(tab)
