"""Text from strangers stays text."""

import pytest

from harness import problem

ATTEMPTS = [
    "<img src=x onerror='hacked=1'>", "<script>hacked=1</script>", '"><svg onload=hacked=1>', "<iframe srcdoc='<script>parent.hacked=1</script>'>",
    "{{constructor.constructor('hacked=1')()}}", "</title></li><script>hacked=1</script>", "<a href=javascript:hacked=1>x</a>", "&lt;b&gt; &amp; <!-- ${hacked=1}",
]  # fmt: skip
LINKS = [
    "javascript:hacked=1", " javascript:hacked=1", "JaVaScRiPt:hacked=1", "java\nscript:hacked=1", "\u0001javascript:hacked=1", "data:text/html,<script>hacked=1</script>",
    "vbscript:x", "file:///etc/passwd", "//evil.example", "/\\evil.example", "\\\\evil.example", "blob:https://evil.example/1", "", "relative", None, 7, {},
    "/\t/evil.example", "https:evil", "ftp://example.com/x",
]  # fmt: skip
GOOD = {
    "/chat/room/456": "/chat/room/456", "https://example.com/a?b=c#d": "https://example.com/a?b=c#d", "HTTP://Example.com": "http://example.com/",
    "mailto:a@example.com": "mailto:a@example.com", "/": "/",
}  # fmt: skip


@pytest.mark.parametrize("page", ["demo", "react"])
def test_text_is_shown_as_it_is(browser, site, cluster, user, page):
    # The demo makes tokens for whoever is named.
    tab = browser.open(f"{site.url}/demo" if page == "demo" else f"{site.url}/site/react.html", user=user.name)
    if page == "react":
        tab.until("the page is live", "typeof inbox === 'object' && inbox.status === 'open'")
        tab.run("document.querySelector('.carillon-bell').click()")
    else:
        tab.until("the page is live", "document.getElementById('status').dataset.status === 'open'")
    for number, text in enumerate(ATTEMPTS):
        cluster.notify(user, title=text, content=text, link_url=f"https://example.com/{number}", link_text=text)
    for place in (".carillon-item", ".carillon-toast"):
        selector = f"[...document.querySelectorAll('{place} strong')].map(each => each.innerText)"
        expected = ATTEMPTS[::-1] if place == ".carillon-item" else ATTEMPTS[-4:]
        tab.until("they are text", selector, lambda texts, expected=expected: texts == expected)
    inside = tab.value("[...document.querySelectorAll('.carillon-item, .carillon-toast')].flatMap(each => [...each.querySelectorAll('*')].map(it => it.localName))")
    assert set(inside) <= {"div", "strong", "span", "time", "p", "a", "button"}
    assert {link.split(":")[0] for link in tab.value("[...document.querySelectorAll('.carillon-item a')].map(each => each.href)")} == {"https"}
    assert tab.value("typeof hacked") == "undefined"


def test_links_are_http_mailto_or_of_this_site(browser, site, cluster, user):
    tab = browser.open(f"{site.url}/site/client.html", user=user.name)
    check = "const {safeLink} = await import('/client/carillon.js'); return arguments[0].map(link => safeLink(link))"
    tab.driver  # noqa: B018
    script = f"return (async links => {{ {check.replace('arguments[0]', 'links')} }})(arguments[0])"
    assert tab.driver.execute_script(script, LINKS) == [None] * len(LINKS)
    assert tab.driver.execute_script(script, list(GOOD)) == list(GOOD.values())


def test_the_service_refuses_such_links_itself(cluster, user):
    for link in ("javascript:hacked=1", "data:text/html,x", "//evil.example"):
        problem(cluster.publish(title="x", user_ids=[user.name], link_url=link), 422, "invalid_body")


def test_a_page_of_another_site_does_not_frame_the_demo(browser, site, cluster):
    tab = browser.open(f"http://other.localhost:{site.port}/site/eventsource.html", user="nobody")
    tab.run("""
        const frame = document.createElement('iframe');
        frame.src = arguments[0];
        await new Promise(done => { frame.onload = done; document.body.append(frame); });
    """.replace("arguments[0]", repr(f"{site.url}/demo")))
    # An error page of the browser stands there.
    tab.driver.switch_to.frame(tab.find("iframe"))
    try:
        assert tab.value("location.href") == "chrome-error://chromewebdata/"
    finally:
        tab.driver.switch_to.default_content()
