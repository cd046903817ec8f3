"""Chromium, driven by Selenium."""

import json
import shutil
import urllib.parse

from selenium import webdriver
from selenium.common.exceptions import ElementClickInterceptedException, NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from harness import eventually


class Browser:
    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900", "--no-proxy-server"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.page_load_strategy = "eager"
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(60)
        self.home = self.driver.current_window_handle
        self._current = self.home
        self._kept = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def open(self, url, **query):
        """A new tab."""
        self.driver.switch_to.new_window("tab")
        self._current = self.driver.current_window_handle
        tab = Tab(self, self._current)
        tab.go(url, **query)
        return tab

    def switch_to(self, handle):
        if handle != self._current:
            self.driver.switch_to.window(handle)
            self._current = handle
        return self.driver

    def keep(self, tab):
        """It stays open beyond its test."""
        self._kept.add(tab.handle)

    def let_go(self):
        self._kept.clear()

    def close_tabs(self):
        for handle in self.driver.window_handles:
            if handle != self.home and handle not in self._kept:
                self.switch_to(handle).close()
        self.switch_to(self.home)
        self.driver.get_log("browser")


class Tab:
    def __init__(self, browser, handle):
        self.browser = browser
        self.handle = handle

    @property
    def driver(self):
        return self.browser.switch_to(self.handle)

    def go(self, url, **query):
        self.driver.get(url + ("?" + urllib.parse.urlencode(query) if query else ""))

    def client(self, site, user, *, host="127.0.0.1", ttl=None, **options):
        """The page with the client."""
        query = {"user": user.name, "options": json.dumps(options), **({"ttl": ttl} if ttl else {})}
        self.go(f"http://{host}:{site.port}/site/client.html", **query)
        return self

    def close(self):
        self.driver.close()
        self.browser.switch_to(self.browser.home)

    def reload(self):
        self.driver.refresh()

    def run(self, script, *arguments):
        """What a script answers; a promise is waited for."""
        answer = self.driver.execute_script(f"return (async () => {{ {script} }})()", *arguments)
        return answer

    def value(self, expression):
        return self.run(f"return {expression}")

    def until(self, what, expression, is_right=bool, timeout=30):
        """Waits until an expression has a value that is right, and answers it."""
        seen = []

        def attempt():
            seen[:] = [self.value(expression)]
            return is_right(seen[0])

        try:
            eventually(what, attempt, timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; {expression} is {seen}") from None
        return seen[0]

    def is_open(self, timeout=30):
        self.until("the page has a client", "typeof client === 'object'")
        self.until("the stream is open", "client.getState().isLoaded && client.getState().status", lambda status: status == "open", timeout)
        return self

    def titles(self, expected, timeout=30):
        self.until(f"the list is {expected}", "titles()", lambda titles: titles == expected, timeout)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector):
        """What is there is clicked; it may be made anew while one looks for it."""

        def attempt():
            try:
                self.find(selector).click()
                return True
            except (StaleElementReferenceException, NoSuchElementException, ElementClickInterceptedException):
                return False

        eventually(f"{selector} is clicked", attempt)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    def press(self, *keys):
        """On whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def devtools(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def offline(self, is_offline):
        self.devtools("Network.enable")
        self.devtools("Network.emulateNetworkConditions", offline=is_offline, latency=0, downloadThroughput=-1, uploadThroughput=-1)

    def look(self, scheme="light", width=1200, height=900):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def complaints(self):
        """What the page logged as an error; the browser's own lines about failed requests are not the page's."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE" and entry["source"] != "network"]


def streams_of(admin, user):
    """How many streams the service has open for a user."""
    answer = admin.cluster.http.get(f"{admin.cluster.url}/v1/admin/connections", params={"user_id": user.name}, headers=admin.bearer)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]
