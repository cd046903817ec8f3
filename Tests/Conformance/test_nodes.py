"""Prefixes, roles, health, metrics, and the load balancer in front."""

import http.client
import urllib.parse

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import Stream, eventually, problem


def nodes(cluster):
    return [*cluster.apis, *cluster.edges]


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/api"])
def test_every_prefix_reaches_the_same_routes(cluster, user, prefix):
    base = cluster.url + prefix
    with Stream(f"{base}/notifications/sse", user.bearer) as stream:
        stream.ready()
        answer = cluster.http.post(
            f"{base}/internal/notify", json={"title": "Hello", "user_ids": [user.name]}, headers=cluster.application
        )
        assert answer.status_code == 201
        [made] = answer.json()["notifications"]
        assert stream.expect("message").json["id"] == made["id"]
    for method, path, status in (
        ("GET", "", 200), ("GET", "/count", 200), ("GET", f"/{made['id']}", 200), ("PATCH", f"/{made['id']}/read", 200), ("POST", "/read-all", 200),
        ("POST", "/stream-ticket", 200), ("DELETE", f"/{made['id']}", 204),
    ):  # fmt: skip
        answer = cluster.http.request(method, f"{base}/notifications{path}", headers=user.bearer)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
    answer = cluster.http.get(f"{base}/internal/users/{user.name}/count", headers=cluster.application)
    assert answer.json()["unread"] == 0


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/api"])
def test_node_without_the_role_says_so(cluster, user, prefix):
    edge, api = cluster.edges[0] + prefix, cluster.apis[0] + prefix
    for method, url in (
        ("GET", f"{edge}/notifications"), ("GET", f"{edge}/notifications/count"), ("POST", f"{edge}/notifications/read-all"),
        ("POST", f"{edge}/internal/notify"), ("POST", f"{edge}/notifications/sse"), ("GET", f"{api}/notifications/sse"),
        ("GET", f"{api}/notifications/stream"), ("POST", f"{api}/notifications/stream-ticket"), ("POST", f"{api}/notifications/stream-renew"),
    ):  # fmt: skip
        problem(cluster.http.request(method, url, headers=user.bearer), 421, "wrong_role")


def test_health(cluster):
    for node in nodes(cluster):
        for path in ("/health/live", "/health/ready"):
            answer = cluster.http.get(node + path)
            assert answer.status_code == 200, f"{node}{path}: {answer.text}"
            assert answer.json()["status"]


def metrics(cluster, node):
    answer = cluster.http.get(f"{node}/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families, name):
    [sample] = [sample for sample in families[name].samples if not sample.labels]
    return sample.value


def test_metrics_are_prometheus_text(cluster):
    for node in nodes(cluster):
        families = metrics(cluster, node)
        assert len(families) > 5
        for family in families.values():
            assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
            if family.type == "histogram":
                series = {}
                for sample in family.samples:
                    labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
                    series.setdefault(labels, {}).setdefault(sample.name.rpartition("_")[2], []).append(sample)
                for samples in series.values():
                    counts = [sample.value for sample in samples["bucket"]]
                    assert counts == sorted(counts) and samples["bucket"][-1].labels["le"] == "+Inf"
                    [total] = samples["count"]
                    assert counts[-1] == total.value and len(samples["sum"]) == 1
        assert value(families, "carillon_unread_drift") == 0


def test_edges_count_what_they_do(cluster, user):
    before = metrics(cluster, cluster.edges[0])
    with user.stream(cluster.edges[0]) as stream:
        stream.ready()
        assert value(metrics(cluster, cluster.edges[0]), "carillon_connections") >= 1
        cluster.notify(user)
        stream.expect("message")
        after = metrics(cluster, cluster.edges[0])
        assert value(after, "carillon_events_delivered") > value(before, "carillon_events_delivered")
        for name in (
            "carillon_fanout_seconds", "carillon_redis_canary_seconds", "carillon_lagging_connections", "carillon_gap_repairs",
            "carillon_unpublished_commits",
        ):  # fmt: skip
            assert name in after
    assert "carillon_publish_seconds" in metrics(cluster, cluster.apis[0])


def test_closed_stream_is_noticed(cluster, user):
    with user.stream(cluster.edges[1]) as stream:
        stream.ready()
        open_now = value(metrics(cluster, cluster.edges[1]), "carillon_connections")
    eventually(
        "the edge has a stream less", lambda: value(metrics(cluster, cluster.edges[1]), "carillon_connections") < open_now
    )


@pytest.mark.parametrize(
    "path", ["/metrics", "/health/live", "/health/ready", "/metrics/", "//metrics", "/%6detrics", "/health", "/metrics?x=1", "/./metrics", "/x/../metrics"]
)
def test_load_balancer_hides_what_is_for_operators(cluster, path):
    # As it stands: clients tidy such paths before they send them.
    address = urllib.parse.urlsplit(cluster.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert 400 <= answer.status < 500, path
    assert b"carillon_" not in body and b"postgres" not in body
    connection.close()


def test_load_balancer_says_whether_the_cluster_is_ready(cluster):
    assert cluster.http.get(f"{cluster.url}/balancer/ready").status_code == 200


def test_one_connection_carries_requests_and_then_a_stream(cluster, user):
    """A browser's connection is kept open: what came over it before must not disturb the stream."""
    address = urllib.parse.urlsplit(cluster.edges[0])
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    for _ in range(3):
        connection.request("POST", "/v1/notifications/stream-ticket", headers=user.bearer)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.request("GET", "/v1/notifications/sse", headers=user.bearer)
    sock = connection.sock
    answer = connection.getresponse()
    cluster.notify(user, title="over the same connection")
    received = b""
    while b"over the same connection" not in received:
        part = answer.read1(65536)
        assert part, received
        received += part
    sock.close()
    answer.close()


def test_compression_is_not_forced_on_a_stream(user):
    with user.stream(headers={"Accept-Encoding": "gzip, br"}) as stream:
        stream.ready()
        assert "content-encoding" not in stream.headers
