"""Rate limits: so many requests a minute for each user and each API key, whichever nodes they come to."""

import re
import time

import pytest
import requests

from carillon import PATIENCE, bearer, problem
from servers import World, until
from test_redis_topologies import ShardedRedis

USER, KEY = 20, 300


@pytest.fixture(scope="module")
def world():
    with World(apis=2, settings={"CARILLON_RATE_LIMIT_USER": str(USER), "CARILLON_RATE_LIMIT_KEY": str(KEY)}) as world:
        yield world


@pytest.fixture
def minute():
    """The rest of this minute is long enough for a test: at its turn everybody has a new quota."""
    until(lambda: 60 - time.time() % 60 > 20, "a fresh minute")


def ask(node, user, path="/count", method="GET", **options):
    return requests.request(method, f"{node.url}/v1/notifications{path}", headers=bearer(World.token(user)), timeout=PATIENCE, **options)


def standing(answer):
    """(policy, quota, remaining, seconds) as the answer's headers say it."""
    name, quota = re.fullmatch(r'"(\w+)";q=(\d+);w=60', answer.headers["ratelimit-policy"]).groups()
    same, remaining, seconds = re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', answer.headers["ratelimit"]).groups()
    assert same == name and 1 <= int(seconds) <= 60
    return name, int(quota), int(remaining), int(seconds)


def refusal(answer):
    body = problem(answer, 429, "rate_limited")
    _, _, remaining, seconds = standing(answer)
    assert remaining == 0
    assert int(answer.headers["retry-after"]) == seconds
    assert body["instance"] == answer.headers["x-request-id"]


def use_up(node, user):
    for _ in range(USER):
        assert ask(node, user).status_code == 200


def test_every_answer_says_what_is_left(world, minute):
    user = world.user()
    node = world.apis[0]
    asked = [
        ("GET", "", 200), ("GET", "/count", 200), ("GET", "/nonsense", 400), ("GET", "?limit=0", 422), ("POST", "/seen", 200),
        ("DELETE", "/01930000-0000-7000-8000-000000000000", 404),
    ]  # fmt: skip
    for number, (method, path, status) in enumerate(asked):
        answer = ask(node, user, path, method)
        assert answer.status_code == status
        assert standing(answer)[:3] == ("user", USER, USER - number - 1)


def test_what_has_no_limit_says_nothing(world):
    node = world.apis[0]
    for answer in (
        requests.get(node.url + "/health/live", timeout=PATIENCE), requests.get(node.url + "/v1/notifications", timeout=PATIENCE),
        requests.get(node.url + "/v1/notifications", headers=bearer("nonsense"), timeout=PATIENCE),
        requests.post(node.url + "/v1/internal/notify", headers=bearer("ck_" + "x" * 43), json={}, timeout=PATIENCE),
    ):  # fmt: skip
        assert "ratelimit" not in answer.headers and "ratelimit-policy" not in answer.headers


def test_one_node_lets_in_the_quota_and_not_one_more(world, minute):
    user, other = world.user(), world.user()
    use_up(world.apis[0], user)
    for method, path in (("GET", "/count"), ("GET", ""), ("POST", "/seen"), ("POST", "/read-all")):
        refusal(ask(world.apis[0], user, path, method))
    assert ask(world.apis[0], other).status_code == 200


def test_nothing_is_done_for_who_is_refused(world, minute):
    user = world.user()
    made = world.notify(user)
    use_up(world.apis[0], user)
    refusal(ask(world.apis[0], user, f"/{made['id']}", "DELETE"))
    count = requests.get(f"{world.apis[0].url}/v1/internal/users/{user}/count", headers=bearer(world.key), timeout=PATIENCE)
    assert count.json()["unread"] == 1


def test_the_limit_is_the_clusters(world, minute):
    user = world.user()
    use_up(world.apis[0], user)
    # Another node hears of it with its first flush.
    extra = until(lambda: (answer := ask(world.apis[1], user)).status_code == 429 and [answer], "the other API node to refuse")
    refusal(extra[0])
    refused = until(lambda: (answer := ask(world.edges[0], user, "/stream-ticket", "POST")).status_code == 429 and [answer], "the edge to refuse a ticket")
    refusal(refused[0])
    # What the nodes let in is all in one number, which ends by itself.
    window = int(time.time()) // 60
    total = until(lambda: int(world.redis.cli("GET", f"carillon:{{{user}}}:rl:{window}") or 0) >= USER, "the total in Redis")
    assert total
    assert 0 < int(world.redis.cli("TTL", f"carillon:{{{user}}}:rl:{window}")) <= 120


def test_a_stream_opens_whatever_else_its_user_did(world, minute):
    user = world.user()
    use_up(world.apis[0], user)
    for _ in range(USER):
        ask(world.edges[0], user, "/stream-ticket", "POST")
    refusal(ask(world.edges[0], user, "/stream-ticket", "POST"))
    with world.stream(user) as stream:
        assert stream.next(PATIENCE).name == "ready"
        made = world.notify(user)
        assert stream.next(PATIENCE).id.endswith(f"-{made['seq']}")


def test_an_api_key_has_a_limit_of_its_own(world, minute):
    key = world.carillon("apikey", "create", "--name", "limited", "--scopes", "notify")
    session = requests.Session()
    session.headers.update(bearer(key))
    url = f"{world.apis[0].url}/v1/internal"
    for number in range(KEY):
        answer = session.get(f"{url}/users/{world.user()}/count", timeout=PATIENCE)
        assert answer.status_code == 200
        assert standing(answer)[:3] == ("key", KEY, KEY - number - 1)
    user = world.user()
    refusal(session.post(f"{url}/notify", json={"title": "hello", "user_ids": [user]}, timeout=PATIENCE))
    refusal(session.get(f"{url}/users/{user}/count", timeout=PATIENCE))
    assert world.get(user)["data"] == []
    # Another key is not concerned, nor are users.
    assert world.publish(user).status_code == 201


def test_without_redis_everybody_is_let_in_and_counted_and_with_it_the_limit_holds_again(world, minute):
    user, node = world.user(), world.apis[0]
    use_up(node, user)
    refusal(ask(node, user))
    world.redis.kill()
    try:
        until(lambda: ask(node, user).status_code == 200, "who was refused to be let in")
        before = node.metrics()["carillon_rate_limit_ungoverned_total"]
        assert before >= 1
        for _ in range(2 * USER):
            assert ask(node, user).status_code == 200
        assert node.metrics()["carillon_rate_limit_ungoverned_total"] >= before + 2 * USER
    finally:
        world.redis.start()
    world.wait_until_whole()
    # A window may end meanwhile; a limit holds in each.
    until(lambda: ask(node, user).status_code == 429, "the limit to hold again")
    assert node.metrics()["carillon_rate_limited_total"] >= 2


@pytest.mark.parametrize("name", ["CARILLON_RATE_LIMIT_USER", "CARILLON_RATE_LIMIT_KEY"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "10/s"])
def test_a_limit_that_is_none_stops_the_start(world, name, value):
    with pytest.raises(AssertionError, match=f"{name}: must be off, or a whole number"):
        world.environment[name] = value
        try:
            world.carillon("serve", "--roles", "api", "--port", "0")
        finally:
            world.environment[name] = world.settings[name]


def test_limits_can_be_switched_off(world):
    with World(edges=0, settings={"CARILLON_RATE_LIMIT_USER": "off", "CARILLON_RATE_LIMIT_KEY": "OFF"}) as free:
        answer = ask(free.apis[0], free.user())
        assert answer.status_code == 200 and "ratelimit" not in answer.headers
        assert "ratelimit" not in free.publish(free.user()).headers


def test_the_limit_is_the_clusters_on_shards_too():
    with World(apis=2, edges=0, settings={"CARILLON_RATE_LIMIT_USER": str(USER)}, redis=ShardedRedis) as world:
        until(lambda: 60 - time.time() % 60 > 20, "a fresh minute")
        # On each of the shards.
        for user in [world.user() for _ in range(12)]:
            use_up(world.apis[0], user)
            refusal(ask(world.apis[0], user))
            until(lambda user=user: ask(world.apis[1], user).status_code == 429, "the other node to refuse")
        assert world.apis[0].metrics()["carillon_rate_limit_ungoverned_total"] == 0
