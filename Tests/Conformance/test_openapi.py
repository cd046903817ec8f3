"""/openapi.json is true: it is valid, names every code of the sources, and what is answered to made-up requests is what it says."""

import collections
import copy
import functools
import json
import re
from pathlib import Path

import hypothesis
import pytest
import requests
import schemathesis
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("get", "put", "post", "delete", "patch")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]


@functools.cache
def document():
    """As it is written. That every node answers the same is tested below, and in Swift."""
    return json.loads(json.dumps(yaml.safe_load((ROOT / "Sources/carillon/Resources/openapi.yaml").read_text())))


def operations():
    return [
        (method.upper(), path, operation)
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_every_node_answers_it_and_so_does_the_load_balancer(cluster):
    for base in (cluster.url, *cluster.apis, *cluster.edges):
        answer = cluster.http.get(f"{base}/openapi.json")
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        assert answer.json() == document()
        again = cluster.http.get(f"{base}/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content


def test_it_is_openapi():
    errors = [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()]
    assert errors == []


def test_every_operation_says_what_it_answers():
    names = set()
    for method, path, operation in operations():
        assert operation["operationId"] not in names, "an operationId stands twice"
        names.add(operation["operationId"])
        assert operation["summary"] and operation["tags"] and "security" in operation, f"{method} {path}"
        # A WebSocket's answer is 101.
        assert any(status.startswith("2") or status == "101" for status in operation["responses"]), f"{method} {path}"
        for name in re.findall(r"{(\w+)}", path):
            parameters = [*document()["paths"][path].get("parameters", []), *operation.get("parameters", [])]
            assert name in [resolved(parameter)["name"] for parameter in parameters], f"{method} {path}"


def resolved(node):
    while "$ref" in node:
        found = document()
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def test_all_components_are_used():
    text = json.dumps(document())
    unused = [
        f"{kind}/{name}"
        for kind, entries in document()["components"].items()
        if kind != "securitySchemes"
        for name in entries
        if f'"#/components/{kind}/{name}"' not in text
    ]
    assert unused == []


def codes_in_sources():
    """The codes that stand in the server's sources, however they are written there."""
    patterns = (
        r'notifications_m\.([a-z][a-z_]*)',
        r'Problem\(\s*\.\w+,\s*"([a-z_]+)"',
        r'(?i:failure)(?:: String)?\s*[:=]\s*"([a-z_]+)"',
    )
    found = {}
    for file in sorted((ROOT / "Sources").rglob("*.swift")):
        if file.is_relative_to(ROOT / "Sources/CarillonClient"):
            continue
        text = file.read_text()
        for pattern in patterns:
            for code in re.findall(pattern, text):
                found.setdefault(f"notifications_m.{code}", file.name)
    return found


def test_every_code_of_the_sources_is_described_and_no_other():
    described = set(document()["components"]["schemas"]["ProblemCode"]["enum"])
    found = codes_in_sources()
    assert len(found) > 15, "the sources are not understood"
    assert {code: file for code, file in found.items() if code not in described} == {}
    # `internal_error` and `unavailable` are the default and the exception of what a failed read is called.
    assert described - set(found) == set()


def test_every_code_is_said_by_some_response():
    """But for the one that a method without an operation is answered."""
    said = set()
    for response in document()["components"]["responses"].values():
        said |= set(re.findall(r"notifications_m\.\w+", json.dumps(response)))
    described = set(document()["components"]["schemas"]["ProblemCode"]["enum"])
    assert described - said == {"notifications_m.method_not_allowed"}


# --- Made-up requests ----------------------------------------------------------------------------------------------------

# The same ones every time: for each operation, and for right and wrong ones.
EXAMPLES = 40
# Streams do not end, sessions need a protocol; and what the node tells of itself is tested elsewhere.
NOT_MADE_UP = {"openStream", "openStreamByAlias", "openWebSocket", "openSocketIO", "postSocketIO", "metrics"}


def closed():
    """The same, in which an answer may have no member that is not described."""
    strict = copy.deepcopy(document())

    def close(schema):
        if isinstance(schema, list):
            for entry in schema:
                close(entry)
        elif isinstance(schema, dict):
            if "properties" in schema and "additionalProperties" not in schema and "const" not in json.dumps(schema["properties"].get("status", {})):
                schema["additionalProperties"] = False
            for name, value in schema.items():
                if name not in ("properties", "required", "enum", "examples"):
                    close(value)
                elif name == "properties":
                    for member in value.values():
                        close(member)

    for name, schema in strict["components"]["schemas"].items():
        if not name.endswith("Request"):
            close(schema)
    # Else credentials would be made up, too.
    for item in strict["paths"].values():
        for method in METHODS:
            item.get(method, {}).pop("security", None)
    return strict


@functools.cache
def described():
    schema = schemathesis.openapi.from_dict(closed())
    return {result.ok().definition.raw["operationId"]: result.ok() for result in schema.get_all_operations()}


# What only notifications, types and users that exist can be right for.
PUBLISHING = {"notify", "trigger", "sendDirectEvent", "demoNotify"}
# Their ids and keys are those of streams, API keys, records and contacts that there are.
NEVER_RIGHT = {"renewStream", "revokeAPIKey", "correctNotifications", "takeBackNotifications", "getContact", "deleteContact", "getJob", "dropDeadLetter",
               "retryDeadLetter", "getWebhook", "changeWebhook", "deleteWebhook", "testWebhook", "rotateWebhook", "enableWebhook", "replayWebhook",
               "listWebhookAttempts", "unsubscribe", "unsubscribePage", "twilioCallback"}


def possible(body, user):
    """Of a made-up notification: what no schema knows, such as the catalogue's types."""
    if body.get("type") is not None:
        body["type"] = "chat" if len(body["type"]) % 2 else "SYSTEM"
    for name in ("event", "expires_at", "deliver_at", "link", "link_url"):
        body.pop(name, None)
    if not body.get("broadcast") and not (body.get("user_ids") or body.get("user_id") or body.get("userId")):
        body["user_id"] = user.name
    elif body.get("broadcast"):
        for name in ("user_ids", "user_id", "userId"):
            body.pop(name, None)
    if not (body.get("title") or "").isprintable() or not body.get("title"):
        body["title"] = "Hello"


class Caller:
    """Whose credentials the made-up requests carry."""

    def __init__(self, cluster):
        self.session = requests.Session()
        self.session.trust_env = False
        self.cluster = cluster
        self.user = None

    def credentials(self, name):
        [security] = [operation["security"] for _, _, operation in operations() if operation["operationId"] == name]
        names = {name for requirement in security for name in requirement}
        if "userToken" in names:
            return self.user.bearer
        if "apiKey" in names:
            return self.cluster.application
        if "adminToken" in names:
            return {"Authorization": f"Bearer {self.cluster.token('conf-admin', '--role', 'admin')}"}
        # The demo answers its own page.
        return {"Origin": self.cluster.apis[0]} if name == "demoNotify" else {}

    def base(self, operation):
        return {"edge": self.cluster.edges, "api": self.cluster.apis}.get(operation.get("x-role"), self.cluster.apis)[0]


@pytest.fixture(scope="module")
def caller(cluster):
    caller = Caller(cluster)
    yield caller
    caller.session.close()


def made_up():
    """Operations, each with requests as they should be and, where there is something to get wrong, as they should not."""
    for method, path, operation in operations():
        if operation["operationId"] in NOT_MADE_UP:
            continue
        yield pytest.param(operation["operationId"], "positive", id=f"{method} {path}")
        inputs = [resolved(parameter) for parameter in (*document()["paths"][path].get("parameters", []), *operation.get("parameters", []))]
        if "requestBody" in operation or any(parameter["in"] != "header" for parameter in inputs):
            yield pytest.param(operation["operationId"], "negative", id=f"{method} {path}, wrong")


@pytest.mark.parametrize(("name", "mode"), list(made_up()))
def test_made_up_requests_are_answered_as_described(caller, name, mode):
    operation = described()[name]
    # What one test makes a user prefer must not be what another sees.
    caller.user = caller.cluster.fresh_user()
    raw = operation.definition.raw
    headers, base = caller.credentials(name), caller.base(raw)
    strategy = operation.as_strategy(schemathesis.GenerationMode(mode))
    if "{id}" in operation.path and mode == "positive" and "users" not in operation.path:
        # An id that exists, as often as one that does not.
        known = operation.as_strategy(schemathesis.GenerationMode(mode), path_parameters={"id": caller.cluster.notify(caller.user)["id"]})
        strategy = hypothesis.strategies.one_of(strategy, known)
    statuses = collections.Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=strategy)
    def run(case):
        if mode == "positive" and name in PUBLISHING:
            possible(case.body, caller.user)
        if mode == "positive" and name == "createWebhook":
            # Of a customer of its own, of which nobody tells anything.
            case.body.update(url="https://1.1.1.1/hook", customer_id=caller.user.name)
        if mode == "positive" and name == "addEvent":
            case.body["type"] = "SYSTEM"
            case.body.pop("event", None)
        answer = case.call_and_validate(base_url=base, session=caller.session, headers=headers, checks=CHECKS, timeout=30)
        statuses[answer.status_code] += 1

    run()
    print(name, mode, dict(statuses))
    assert 401 not in statuses, "the credentials are wrong, so nothing was tested"
    assert mode == "negative" or name in NEVER_RIGHT or any(status < 300 for status in statuses), "not one of them was right"
