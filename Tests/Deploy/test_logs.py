"""Logs: JSON lines with request ids and traces, levels that change at run time, and no secret even at the most talkative level."""

import http.server
import json
import os
import signal
import socket
import threading
import time

import pytest
import requests

from carillon import PATIENCE, Stream, bearer
from servers import LEAKS, Node, World, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def world():
    settings = {
        "CARILLON_LOG_LEVEL": "trace", "CARILLON_SMTP_URL": "discard:", "CARILLON_SECRETS_KEY": "k" * 32, "CARILLON_WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
        "CARILLON_WEBHOOK_BACKOFF_SECONDS": "0",
    }  # fmt: skip
    with World(apis=1, edges=1, workers=1, settings=settings) as world:
        world.everything = world.carillon("apikey", "create", "--name", "all", "--scopes", "notify,direct,webhooks,contacts,admin")
        yield world


def lines(node):
    with open(node.log) as file:
        return [json.loads(line) for line in file]


def answered(node, request_id):
    found = [line for line in lines(node) if line.get("request_id") == request_id and line["message"] == "request answered"]
    return found[0] if found else None


def test_every_line_is_json_with_time_level_node_and_message(world):
    world.notify(world.user())
    for node in world.nodes:
        found = lines(node)
        assert len(found) > 3
        for line in found:
            assert {"time", "level", "node", "message"} <= line.keys() and line["node"] == node.name


def test_a_request_is_found_by_its_id_and_by_its_trace(world):
    headers = {"X-Request-Id": "request-of-the-test", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    answer = world.publish(world.user(), headers=headers)
    assert answer.status_code == 201 and answer.headers["x-request-id"] == "request-of-the-test"
    version, trace, span, flags = answer.headers["traceresponse"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01") and len(span) == 16 and span != "00f067aa0ba902b7"
    line = until(lambda: answered(world.apis[0], "request-of-the-test"), "the line of the request")
    assert (line["trace_id"], line["span_id"], line["method"], line["route"], line["status"]) == (TRACE, span, "POST", "/v1/internal/notify", "201")
    assert float(line["milliseconds"]) > 0


def test_a_trace_is_followed_from_the_request_over_its_commit_to_the_edge_and_the_client(world):
    user = world.user()
    with Stream(world.token(user), world.edges[0].url) as stream:
        stream.expect("ready")
        headers = {"X-Request-Id": f"traced-{user}", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        [made] = world.publish(user, headers=headers).json()["notifications"]
        event = stream.expect("message")
        line = until(lambda: answered(world.apis[0], f"traced-{user}"), "the line of the request")
        assert line["trace_id"] == TRACE and line["made"] == f"{user} {made['seq']}"
        # The edge says whose changes it heard, and which; the client has the same position.
        [heard] = [line for line in lines(world.edges[0]) if line["message"] == "changes heard" and line["user"] == user]
        assert heard["first"] == heard["last"] == event.id and event.id.endswith(f"-{made['seq']}") and heard["streams"] == "1"


@pytest.fixture(scope="module")
def webhook(world):
    """An endpoint that refuses each first attempt, and keeps the headers of all calls."""
    calls = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            is_first = all(call["webhook-id"] != self.headers["webhook-id"] for call in calls)
            calls.append({name.lower(): text for name, text in self.headers.items()})
            self.send_response(500 if is_first else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    body = {"url": f"http://127.0.0.1:{server.server_port}/", "events": ["*"]}
    made = requests.post(world.apis[0].url + "/v1/webhooks", headers=bearer(world.everything), json=body, timeout=PATIENCE)
    assert made.status_code == 201, made.text
    yield calls
    requests.delete(f"{world.apis[0].url}/v1/webhooks/{made.json()['id']}", headers=bearer(world.everything), timeout=PATIENCE)
    server.shutdown()
    server.server_close()


def fresh_trace():
    trace = os.urandom(16).hex()
    return trace, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}


def of_trace(node, trace, message):
    return [line for line in lines(node) if line.get("trace_id") == trace and line["message"] == message]


def called(webhook, trace, attempts=2):
    """The spans under which the endpoint was called, each another one."""
    parents = until(
        lambda: len(found := [call["traceparent"] for call in webhook if trace in call.get("traceparent", "")]) >= attempts and found, "the calls of the webhook")
    assert all(parent.split("-")[:2] == ["00", trace] and parent.endswith("-01") for parent in parents)
    spans = {parent.split("-")[2] for parent in parents}
    assert len(spans) == len(parents) == attempts and "00f067aa0ba902b7" not in spans
    return spans


def test_a_trace_goes_on_where_work_waits_in_e_mails_and_calls_of_webhooks(world, webhook):
    user, (trace, headers) = world.user(), fresh_trace()
    contact = requests.put(
        f"{world.apis[0].url}/v1/contacts/{user}", headers=bearer(world.everything), json={"email": "a@example.org"}, timeout=PATIENCE)
    assert contact.status_code == 200, contact.text
    [made] = world.publish(user, headers=headers, channels=["in_app", "email"]).json()["notifications"]
    spans = called(webhook, trace)
    attempts = until(lambda: len(found := of_trace(world.workers[0], trace, "task attempted")) == 3 and found, "the worker's lines")
    # What the endpoint was told is what the log says of each attempt.
    assert {line["span_id"] for line in attempts if line["queue"] == "webhook"} == spans
    assert sorted((line["attempt"], line["state"]) for line in attempts if line["queue"] == "webhook") == [("1", "queued"), ("2", "delivered")]
    [mail] = [line for line in attempts if line["queue"] == "email"]
    assert (mail["state"], mail["notification"]) == ("sent", made["id"])


def test_a_trace_goes_on_from_an_event_without_recipients(world, webhook):
    trace, headers = fresh_trace()
    body = {"type": "SYSTEM", "data": {"x": 1}}
    answer = requests.post(world.apis[0].url + "/v1/events", headers=bearer(world.everything) | headers, json=body, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    called(webhook, trace)


@pytest.mark.parametrize("route", ["lines", "json"])
def test_a_job_s_notifications_carry_its_trace_to_streams_and_webhooks(world, webhook, route):
    user, (trace, headers) = world.user(), fresh_trace()
    body = {"title": "by way of the queue"}
    if route == "lines":
        sent = {"data": json.dumps(body) + f"\n{user}\n", "headers": headers | {"Content-Type": "application/x-ndjson"}}
    else:
        sent = {"data": json.dumps(body | {"user_ids": [user]}), "headers": headers}
    with Stream(world.token(user), world.edges[0].url) as stream:
        stream.expect("ready")
        answer = requests.post(
            world.apis[0].url + "/v1/notifications/trigger", data=sent["data"], headers=bearer(world.key) | sent["headers"], timeout=PATIENCE)
        assert answer.status_code == 202, answer.text
        event = stream.expect("message")
    seq = event.id.split("-")[1]
    [part] = until(lambda: of_trace(world.workers[0], trace, "part of a job written"), "the job's line")
    assert (part["job"], part["made"], part["users"]) == (answer.json()["job_id"], f"{user} {seq}", "1")
    # As for any other change: by user and position the edge's line is found.
    assert [line["last"] for line in lines(world.edges[0]) if line["message"] == "changes heard" and line["user"] == user] == [event.id]
    called(webhook, trace)


def test_without_a_trace_nothing_is_said_of_one(world, webhook):
    before = len(webhook)
    world.notify(world.user())
    until(lambda: len(webhook) == before + 2, "the calls of the webhook")
    assert all("traceparent" not in call for call in webhook[before:])


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-01-more"])
def test_what_is_no_trace_is_ignored(world, parent):
    answer = world.publish(world.user(), headers={"traceparent": parent})
    assert answer.status_code == 201 and "traceresponse" not in answer.headers


def test_a_request_that_fails_here_is_logged_with_its_id(world):
    api = Node(world, "api-alone", "api", {"CARILLON_LOG_LEVEL": "info"})
    world.programs.append(api)
    until(api.is_whole, "the node to be ready", 30)
    # The table is away: an error that no client can make.
    world.postgres.sql("ALTER TABLE apikeys RENAME TO elsewhere", "carillon")
    try:
        answer = requests.get(
            api.url + "/v1/jobs/01a1fc47-de4f-7ef5-b48c-94e25a4b3b19", headers=bearer("ck_" + "x" * 43) | {"X-Request-Id": "failed-one"}, timeout=PATIENCE)
        assert answer.status_code >= 500
    finally:
        world.postgres.sql("ALTER TABLE elsewhere RENAME TO apikeys", "carillon")
    api.end()
    assert not [line for line in lines(api) if LEAKS.search(json.dumps(line))]


def test_levels_change_at_run_time(world):
    level = os.path.join(world.folder, "level")
    with open(level, "w") as file:
        file.write("warning")
    api = Node(world, "api-levels", "api", {"CARILLON_LOG_LEVEL": "", "CARILLON_LOG_LEVEL_FILE": level})
    world.programs.append(api)
    until(api.is_whole, "the node to be ready", 30)

    def logs_requests():
        """Whether a request made now is in the log, once what is logged last is there."""
        name = f"probe-{time.monotonic_ns()}"
        requests.get(api.url + "/v1/nothing", headers={"X-Request-Id": name}, timeout=PATIENCE)
        # Its line is written before its answer.
        return answered(api, name) is not None

    assert not logs_requests()
    api.signal(signal.SIGUSR1)
    until(logs_requests, "SIGUSR1 to have everything logged")
    api.signal(signal.SIGUSR2)
    until(lambda: not logs_requests(), "SIGUSR2 to end that")
    with open(level, "w") as file:
        file.write("debug")
    api.signal(signal.SIGHUP)
    until(logs_requests, "SIGHUP to take the new level")
    with open(level, "w") as file:
        file.write("loud")
    api.signal(signal.SIGHUP)
    until(lambda: any(line["message"] == "log level not reloaded: the old one stays" for line in lines(api)), "the complaint")
    assert logs_requests()
    api.end()


def test_no_secret_is_logged_at_any_level(world):
    """Every way in by which one comes, good and bad, while everything is logged."""
    user = world.user()
    token, key = world.token(user), world.everything
    api, edge = world.apis[0].url, world.edges[0].url
    made = requests.post(edge + "/v1/notifications/stream-ticket", headers=bearer(token), timeout=PATIENCE)
    ticket = made.json()["ticket"]
    with Stream(base=edge, path=f"/v1/notifications/sse?ticket={ticket}") as stream:
        stream.expect("ready")
        with Stream(base=edge, path="/v1/notifications/sse?ticket=" + ticket[:-3] + "abc") as refused:
            assert refused.status in (200, 401)
        world.notify(user)
        stream.expect("message")
    with Stream(token, edge, headers={"Cookie": "carillon_token=" + token}) as stream:
        stream.expect("ready")
    for bad in (token[:-2], "ck_" + "y" * 43, "Basic abc"):
        assert requests.get(api + "/v1/notifications", headers=bearer(bad), timeout=PATIENCE).status_code in (401, 403)
    for name in ("jwt", "token"):
        requests.get(f"{api}/v1/notifications?{name}={token}", timeout=PATIENCE)
    requests.post(api + "/v1/unsubscribe/" + token, timeout=PATIENCE)
    requests.post(api + "/v1/admin/apikeys", headers=bearer(key), json={"name": "another", "scopes": ["notify"]}, timeout=PATIENCE)
    requests.post(api + "/v1/admin/apikeys", headers=bearer(key), data="{broken " + key, timeout=PATIENCE)
    with socket.create_connection(("127.0.0.1", world.apis[0].port), timeout=PATIENCE) as raw:
        raw.sendall(f"GET /{key} HTTP/9.9\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        raw.recv(4096)
    requests.get(edge + "/socket.io/?EIO=4&transport=polling", timeout=PATIENCE)
    for node in world.nodes:
        text = "".join(map(json.dumps, lines(node)))
        for secret in (token, key, ticket, token.split(".")[2], key[3:]):
            assert secret not in text, node.name
        assert not node.leaks()
