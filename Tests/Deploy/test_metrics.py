"""What /metrics says, judged by Prometheus' own programs; the alerts; the dashboard, on a Prometheus that scrapes the cluster."""

import json
import os
import re
import subprocess
import tempfile

import pytest
import requests
import yaml

from carillon import APIS, EDGES, KEY, Stream, bearer, call, local, metrics, new_user, notify, token
from places import DEPLOY, run
from servers import Program, World, free_port, until


def nodes():
    """Every node of the cluster, workers included."""
    return ["http://127.0.0.1:" + port for port in re.findall(r"^(?:api|edge|worker)-\d+ +\d+ +(\d+)", local("status"), re.M)]


@pytest.fixture(scope="module")
def busy():
    """The cluster with something of everything that is measured."""
    user = new_user()
    text = token(user)
    with Stream(text, EDGES[0]) as stream:
        stream.expect("ready")
        for number in range(5):
            notify(user, f"number {number}", base=APIS[0])
            stream.expect("message")
        assert call("POST", "/v1/notifications/sse", KEY, base=APIS[0], json={"title": "direct", "user_ids": [user]}).status_code == 200
        stream.expect("message")
        for base in APIS:
            assert call("GET", "/v1/notifications", text, base=base).status_code == 200
            assert call("GET", "/v1/nothing/here", base=base).status_code == 404
            assert call("GET", "/v1/jobs/01a1fc47-de4f-7ef5-b48c-94e25a4b3b19", KEY, base=base).status_code == 404
        yield


# What section 13 of the contract names, by the role that has it.
NAMED = {
    "edge": [
        "carillon_connections", "carillon_events_delivered_total", "carillon_fanout_seconds_count", "carillon_gap_repairs_total",
        "carillon_lagging_connections", "carillon_unpublished_commits", "carillon_redis_canary_seconds_count", "carillon_unread_drift_total",
    ],
    "api": ["carillon_publish_seconds_count", "carillon_unread_drift_total"],
    "worker": ['carillon_queue_depth{queue="jobs"}', 'carillon_queue_oldest_seconds{queue="jobs"}', "carillon_unpublished_commits", "carillon_unread_drift_total"],
}
# What every node says of itself.
OWN = [
    "carillon_ready", "carillon_draining", "carillon_http_connections", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_max_fds",
    'carillon_postgres_connections{pool="requests"}', 'carillon_postgres_in_flight{pool="background"}', 'carillon_event_loop_delay_seconds_count{loop="0"}',
]


def role(values):
    return next(re.search(r'roles="([^"]*)"', name).group(1) for name in values if name.startswith("carillon_node_info"))


def test_promtool_finds_no_fault_with_any_node(busy):
    assert {role(metrics(node)) for node in nodes()} == {"api", "edge", "worker"}
    for node in nodes():
        text = requests.get(node + "/metrics", timeout=30).text
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), node


def test_each_role_has_what_the_contract_names(busy):
    for node in nodes():
        values = metrics(node)
        missing = [name for name in NAMED[role(values)] + OWN if name not in values]
        assert not missing, f"{node}: {missing}"


def test_requests_are_counted_by_route_and_status(busy):
    values = metrics(APIS[0])

    def count(method, route, status):
        return values.get(f'carillon_http_requests_total{{method="{method}",route="{route}",status="{status}"}}', 0)

    assert count("POST", "/v1/internal/notify", 201) >= 5
    assert count("GET", "/v1/notifications", 200) >= 1
    # Routes stand as they were declared: an id is no label, and what nobody knows is one series.
    assert count("GET", "/v1/jobs/{id}", 404) >= 1
    assert count("GET", "other", 404) >= 1
    assert not [name for name in values if "01a1fc47" in name or "nothing/here" in name]
    assert values['carillon_http_request_seconds_count{method="POST",route="/v1/internal/notify"}'] >= 5


def test_a_node_that_is_asked_for_a_thousand_paths_and_methods_has_no_more_series():
    def series():
        return {name for name in metrics(APIS[0]) if name.startswith("carillon_http_requests_total")}

    with requests.Session() as session:
        for number in range(3):
            session.request(f"ODD{number}", APIS[0] + "/v1/notifications", timeout=30)
            session.get(f"{APIS[0]}/client/none-{number}.js", timeout=30)
            session.get(f"{APIS[0]}/none-{number}", timeout=30)
        before = series()
        for number in range(300):
            session.get(f"{APIS[0]}/v1/none-{number}", timeout=30)
            session.get(f"{APIS[0]}/client/other-{number}.js", timeout=30)
            session.request(f"ODD{number}", APIS[0] + "/v1/notifications", timeout=30)
    assert series() == before


def test_the_token_guards_the_metrics():
    with World(edges=0, settings={"CARILLON_METRICS_TOKEN": "a token of the tests"}) as world:
        url = world.apis[0].url + "/metrics"
        assert requests.get(url, timeout=30).status_code == 401
        assert requests.get(url, headers=bearer("another"), timeout=30).status_code == 401
        assert requests.get(url, headers=bearer("a token of the tests"), timeout=30).status_code == 200


def test_the_rules_and_their_tests_hold():
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", DEPLOY / "prometheus/alerts.yaml")
    run("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    run("promtool", "test", "rules", DEPLOY / "prometheus/alerts.test.yaml", cwd=DEPLOY / "prometheus")


def rules():
    return [rule for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def test_each_alert_is_tested_both_ways_and_has_an_entry_in_the_runbook():
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yaml").read_text())["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    headings = re.findall(r"^## (\w+)$", (DEPLOY / "runbook.md").read_text(), re.M)
    for rule in rules():
        name = rule["alert"]
        assert (name, True) in cases and (name, False) in cases, name
        assert name in headings, name
        assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{name.lower()}"
    assert {name for name in headings if name.startswith("Carillon")} == {rule["alert"] for rule in rules()}


@pytest.fixture(scope="module")
def prometheus(busy):
    """A real one, with the shipped configuration and rules, that has scraped each node twice."""
    with tempfile.TemporaryDirectory(prefix="carillon-prometheus-") as folder:
        configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(DEPLOY / "prometheus/alerts.yaml")]
        targets = [{"targets": [node.removeprefix("http://") for node in nodes()]}]
        for name, content in (("prometheus.yml", configuration), ("nodes.json", targets)):
            with open(os.path.join(folder, name), "w") as file:
                json.dump(content, file)
        port = free_port()
        program = Program("prometheus", folder)
        program.spawn([
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn"])  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}/api/v1/"

            def ask(expression):
                answer = requests.get(url + "query", params={"query": expression}, timeout=30).json()
                assert answer["status"] == "success", f"{expression}: {answer}"
                return answer["data"]["result"]

            count = len(nodes())
            until(lambda: sum(len(entry["values"]) >= 3 for entry in ask('up{job="carillon"}[1m]')) == count, "Prometheus to have scraped all nodes", 60)
            yield ask, url
        except BaseException:
            print(program.tail())
            raise
        finally:
            program.end()


def expressions():
    dashboard = json.loads((DEPLOY / "grafana/carillon.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_prometheus_scrapes_every_node_and_takes_the_rules(prometheus):
    ask, url = prometheus
    # A scrape that took too long takes a node's figures away until the next one.
    until(lambda: {entry["value"][1] for entry in ask('up{job="carillon"}')} == {"1"}, "every node to be up", 20)
    loaded = requests.get(url + "rules", timeout=30).json()["data"]["groups"]
    assert sorted(rule["name"] for group in loaded for rule in group["rules"]) == sorted(rule["alert"] for rule in rules())
    assert {rule["health"] for group in loaded for rule in group["rules"]} <= {"ok", "unknown"}


def test_every_query_of_the_dashboard_returns_data(prometheus):
    ask, _ = prometheus
    found = list(expressions())
    assert len(found) >= 30
    for title, expression in found:
        query = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        assert "$" not in query
        until(lambda query=query: ask(query), f"data for {title}: {query}", 20)


def test_every_metric_of_an_alert_is_one_that_is_scraped(prometheus):
    ask, _ = prometheus
    for rule in rules():
        for name in set(re.findall(r"\b(?:carillon|process)_\w+", rule["expr"])):
            until(lambda name=name: ask(name), f"{rule['alert']}: {name}", 20)
