import pytest

from harness import Cluster


def pytest_collection_modifyitems(items):
    # They kill what the other tests stand on, so they come last.
    items.sort(key=lambda item: item.path.name == "test_failures.py")


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.http.close()


@pytest.fixture
def user(cluster):
    return cluster.fresh_user()


@pytest.fixture
def other(cluster):
    return cluster.fresh_user()
