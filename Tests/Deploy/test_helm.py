"""The chart, rendered by Helm's own library with three sets of values, and held against Kubernetes' schemas."""

import re

import helm_python
import kubernetes_validate
import pytest
import yaml

from places import DEPLOY, ROOT

CHART = DEPLOY / "helm/carillon"
VALUES = {"default": {}} | {name: yaml.safe_load((CHART / f"ci/{name}-values.yaml").read_text()) for name in ("small", "large")}
# What no schema of Kubernetes itself knows: the Prometheus operator's.
FOREIGN = {"monitoring.coreos.com/v1"}


def render(values):
    chart = helm_python.Chart.load(str(CHART))
    manifests = chart.render(VALUES.get(values, values) if isinstance(values, str) else values, name="bell", namespace="notifications")
    return [document for path, text in manifests.items() if path.endswith(".yaml") for document in yaml.safe_load_all(text) if document]


def one(documents, kind, name=None):
    found = [document for document in documents if document["kind"] == kind and name in (None, document["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_no_fault(values):
    findings = helm_python.lint(str(CHART), VALUES[values], strict=True)
    # 1 is an information: that there is no icon.
    assert not [message for message in findings["messages"] if message["severity"] > 1], findings


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("version", ["1.27", "1.31", "1.35"])
def test_what_is_rendered_fits_the_schemas_of_kubernetes(values, version):
    documents = render(values)
    assert len(documents) >= 8
    for document in documents:
        if document["apiVersion"] not in FOREIGN:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_would_be_found():
    deployment = one(render("default"), "Deployment", "bell-edge")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.31", strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_is_probed_drained_and_has_no_rights(values):
    documents = render(values)
    for role in ("api", "edge", "worker"):
        deployment = one(documents, "Deployment", f"bell-{role}")
        pod = deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert container["args"] == ["serve", "--roles", role]
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
        assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/health/live"
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert len(environment) == len(container["env"])
        hook = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] > hook + max(int(environment["CARILLON_DRAIN_SECONDS"]), 45 if role == "worker" else 0)
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        security = pod["securityContext"] | container["securityContext"]
        assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
        assert security["runAsUser"] > 1000 and security["capabilities"] == {"drop": ["ALL"]} and security["seccompProfile"]["type"] == "RuntimeDefault"
        # A Service of the name "carillon" would else set CARILLON_PORT.
        assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for kind in ("PodDisruptionBudget",):
            assert one(documents, kind, f"bell-{role}")["spec"]["selector"]["matchLabels"].items() <= labels.items()
        if role != "worker":
            service = one(documents, "Service", f"bell-{role}")
            assert service["spec"]["selector"].items() <= labels.items()
            assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
        mounted = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == mounted


@pytest.mark.parametrize("values", VALUES)
def test_every_setting_is_one_that_the_program_has(values):
    known = set(re.findall(r"`(CARILLON_\w+)`", (ROOT / "docs/configuration.md").read_text()))
    for document in render(values):
        if document["kind"] not in ("Deployment", "Job"):
            continue
        for entry in document["spec"]["template"]["spec"]["containers"][0]["env"]:
            assert entry["name"].removesuffix("_FILE") in known or entry["name"] in known, entry["name"]


def test_no_secret_is_in_an_environment():
    for document in render("large"):
        if document["kind"] == "Deployment":
            for entry in document["spec"]["template"]["spec"]["containers"][0]["env"]:
                if re.search("SECRET|URL|TOKEN|KEY", entry["name"]):
                    assert entry["name"].endswith("_FILE") and entry["value"].startswith("/run/secrets/")


def test_edges_are_scaled_by_their_connections_and_go_slowly():
    documents = render("large")
    scaler = one(documents, "HorizontalPodAutoscaler", "bell-edge")["spec"]
    [metric] = scaler["metrics"]
    assert metric["pods"] == {"metric": {"name": "carillon_connections"}, "target": {"type": "AverageValue", "averageValue": "150000"}}
    assert scaler["behavior"]["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 180}]
    # Else each upgrade would take back what the scaler decided.
    assert "replicas" not in one(documents, "Deployment", "bell-edge")["spec"]
    assert one(documents, "Deployment", "bell-worker")["spec"]["replicas"] == 2


def test_the_network_is_closed_but_for_what_is_named():
    policy = one(render("large"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53, 5432, 443]
    assert one(render("default"), "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]
    assert not [document for document in render("small") if document["kind"] in ("NetworkPolicy", "Ingress", "HorizontalPodAutoscaler", "Job")]


def test_the_ingress_brings_streams_to_edges_and_nothing_private_anywhere():
    paths = {
        entry["path"]: entry["backend"]["service"]["name"] for rule in one(render("large"), "Ingress")["spec"]["rules"] for entry in rule["http"]["paths"]}
    for prefix in ("/v1", "/api/v1", "/api"):
        assert paths[prefix + "/notifications/sse"] == paths[prefix + "/notifications/ws"] == "bell-edge"
        assert paths[prefix + "/"] == "bell-api"
    assert not [path for path in paths if path in ("/", "/metrics") or path.startswith("/health")]


def test_the_schema_is_brought_up_to_date_before_the_nodes():
    job = one(render("default"), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def test_who_owns_the_schema_and_each_role_may_have_secrets_of_its_own():
    documents = render("large")

    def file(kind, name, setting):
        container = one(documents, kind, name)["spec"]["template"]["spec"]["containers"][0]
        return next(entry["value"] for entry in container["env"] if entry["name"] == setting + "_FILE").rpartition("/")[2]

    assert file("Job", "bell-migrate", "CARILLON_DATABASE_URL") == "owner-url"
    assert file("Deployment", "bell-api", "CARILLON_DATABASE_URL") == "database-url"
    assert file("Deployment", "bell-api", "CARILLON_REDIS_URL") == "redis-url-api"
    assert file("Deployment", "bell-edge", "CARILLON_REDIS_URL") == "redis-url"
