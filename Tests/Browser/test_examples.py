"""The pages in docs/browser.md, as they stand there."""

import re
from pathlib import Path

from harness import eventually

PAGE = Path(__file__).resolve().parents[2] / "docs/browser.md"
PLAIN, REACT = re.findall(r"^```html\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_page_without_a_framework(browser, site, cluster, user):
    site.examples, site.session = {"/example": PLAIN}, user.name
    tab = browser.open(f"{site.url}/example")
    cluster.notify(user, title="From the docs", link_url="/example#there")
    tab.until("it is listed", "document.querySelector('#list a')?.innerText", lambda text: text == "From the docs")
    assert tab.text("#unread") == "1"
    tab.click("#list a")
    eventually("it is read", lambda: user.count()["unread"] == 0)
    tab.until("the page says so", "document.getElementById('unread').innerText", lambda text: text == "0")
    assert tab.complaints() == []


def test_the_page_with_react_and_an_import_map(browser, site, cluster, user):
    site.examples, site.session = {"/example": REACT}, user.name
    cluster.notify(user, title="From the docs")
    tab = browser.open(f"{site.url}/example")
    tab.until("it is shown", "document.querySelector('#app p')?.innerText", lambda text: bool(text) and text.startswith("1 unread. From the docs"))
    assert tab.text(".carillon-badge") == "1"
    tab.click("#app p button")
    eventually("it is read", lambda: user.count()["unread"] == 0)
    assert tab.complaints() == []
