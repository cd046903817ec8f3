import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Conformance"))

from browser import Browser  # noqa: E402
from harness import Cluster  # noqa: E402
from product_site import Site  # noqa: E402

# The eleventh tab's test waits for a minute, which the others use; those that stop nodes or cut streams come last.
ORDER = ["test_eviction.py", "test_files.py", "test_client.py", "test_tabs.py", "test_react.py", "test_socketio.py", "test_examples.py", "test_pages.py", "test_hostile.py", "test_trouble.py"]


def pytest_collection_modifyitems(items):
    def place(item):
        if "is_told_to_stay_away" in item.name:
            return ORDER.index("test_trouble.py") - 0.5
        return ORDER.index(item.path.name) if item.path.name in ORDER else len(ORDER)

    items.sort(key=place)


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.http.close()


@pytest.fixture(scope="session")
def the_site(cluster):
    site = Site(cluster)
    yield site
    site.close()


@pytest.fixture
def site(the_site):
    the_site.reset()
    yield the_site
    the_site.reset()


@pytest.fixture(scope="session")
def the_browser():
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(the_browser):
    yield the_browser
    the_browser.close_tabs()


@pytest.fixture
def user(cluster):
    return cluster.fresh_user()


@pytest.fixture(scope="session")
def admin(cluster):
    return cluster.user("browser-admin", "--role", "admin")


@pytest.fixture(scope="session")
def crowd():
    """What the test of eleven tabs leaves open for the one that looks at them a minute later."""
    return {}
