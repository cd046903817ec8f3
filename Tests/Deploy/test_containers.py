"""The image and the compose file. No images can be fetched here, so the last stage is made for real in a folder of Debian's, and its program started in it."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import compose_spec
import pytest
import requests
import yaml

from places import DEPLOY, ROOT, run
from servers import Node, World, until

DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def instructions():
    """Of each stage: the instructions with their arguments, lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    stages = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(None, 1)
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((word, " ".join(rest.split())))
    return stages


def packages(stage):
    [words] = [re.search("install -y --no-install-recommends ([^&]*)", rest).group(1) for word, rest in stage if word == "RUN" and "apt-get install" in rest]
    return words.split()


def last(word):
    [found] = [rest for name, rest in instructions()[-1] if name == word]
    return found


def test_hadolint_finds_no_fault():
    # Beside the Python that it was installed with.
    run(pathlib.Path(sys.executable).parent / "hadolint", DOCKERFILE)


def test_two_stages_and_no_root():
    build, final = instructions()
    assert [rest for word, rest in build if word == "FROM"] == ["${BUILD_IMAGE} AS build"]
    assert last("USER") == "10001:10001"
    assert last("ENTRYPOINT") == '["carillon"]' and last("STOPSIGNAL") == "SIGTERM"
    assert not [rest for word, rest in final if word == "RUN" and "swift" in rest]


def test_what_is_built_with_is_what_the_cluster_of_one_machine_builds_with():
    found = re.search(r"^PACKAGES_TO_BUILD=\((.*)\)$", (DEPLOY / "local.d/install.sh").read_text(), re.M).group(1)
    assert sorted(packages(instructions()[0])) == sorted(found.split())
    for word, rest in instructions()[0]:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


class Image(Node):
    """A node that runs in the last stage's root, as its user, with its environment."""

    def start(self):
        settings = self.world.environment | {"CARILLON_NODE_NAME": self.name} | self.settings
        assigned = [f"{name}={text}" for name, text in settings.items() if name.startswith("CARILLON_")]
        # The Dockerfile's own environment, with this test's address and port over it.
        environment = [part.replace("$PATH", "/usr/local/bin:/usr/bin:/bin") for part in shlex.split(last("ENV"))]
        environment += [*assigned, "CARILLON_HOST=127.0.0.1", f"CARILLON_PORT={self.port}"]
        self.inside = ["chroot", "--userspec=" + last("USER"), self.settings["root"], "/usr/bin/env", "-i", *environment]
        script = 'mount -t proc proc "$1/proc" && shift && exec "$@"'
        self.spawn(["unshare", "--mount", "bash", "-c", script, "bash", self.settings["root"], *self.inside, "carillon", "serve", "--roles", self.role])

    def healthcheck(self):
        command = yaml.safe_load(last("HEALTHCHECK").split(" CMD ")[1])
        return subprocess.run([*self.inside, *command], capture_output=True, timeout=30, check=False).returncode


@pytest.fixture(scope="module")
def root():
    """The last stage: Debian's smallest system with the packages, the user, and what the build stage collects."""
    final = instructions()[-1]
    with tempfile.TemporaryDirectory(prefix="carillon-image-") as folder:
        os.chmod(folder, 0o755)
        root = os.path.join(folder, "root")
        run("mmdebstrap", "--variant=minbase", "--mode=root", "--include=" + ",".join(packages(final)), "bookworm", root, patience=400)
        [useradd] = [re.search("useradd [^&]*", rest).group(0) for word, rest in final if word == "RUN"]
        run("chroot", root, *useradd.split())
        assert [rest for word, rest in final if word == "COPY"] == ["--from=build /out /opt/carillon"]
        run(DEPLOY / "container/collect", pathlib.Path(os.environ["CARILLON_BIN"]).parent, os.path.join(root, "opt/carillon"))
        yield root


def test_the_program_starts_in_the_image_as_nobody_and_its_health_is_known(root):
    with World(apis=0, edges=0) as world:
        node = Image(world, "image", "all", {"root": root})
        world.programs.append(node)
        until(node.is_whole, "the node in the image to be ready", 60)
        # Without Debian's own compilers and libraries of this machine.
        with open(f"/proc/{node.pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["Uid"].split() == ["10001"] * 4 and int(status["CapEff"], 16) == 0
        with open(f"/proc/{node.pid}/maps") as file:
            mapped = {line.split()[-1] for line in file if ".so" in line}
        assert any("libpq" in name for name in mapped) and any("libswiftCore" in name for name in mapped)
        assert node.healthcheck() == 0
        world.apis = [node]
        user = world.user()
        assert world.notify(user)["user_id"] == user
        # The resources came along: the browser's client, the description of the API, the console.
        for path in ("/client/carillon.js", "/openapi.json", "/console"):
            assert requests.get(node.url + path, timeout=30).status_code == 200, path
        assert node.stop() == 0
        assert node.healthcheck() != 0


def test_compose_reads_the_file():
    compose = compose_spec.PyCompose.from_yaml(yaml.safe_dump(COMPOSE))
    compose.validate()
    assert set(compose.service_names()) == set(COMPOSE["services"])


def test_compose_would_not_read_a_misspelt_word():
    wrong = COMPOSE | {"services": COMPOSE["services"] | {"api-1": COMPOSE["services"]["api-1"] | {"restrat": "always"}}}
    with pytest.raises(Exception, match="restrat"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(wrong))


def test_compose_runs_the_whole_cluster_with_no_secret_in_it():
    services = COMPOSE["services"]
    roles = [service["command"][2] for service in services.values() if service.get("command", [""])[0] == "serve"]
    assert sorted(roles) == ["api", "api", "edge", "edge", "worker"]
    known = set(re.findall(r"`(CARILLON_\w+)`", (ROOT / "docs/configuration.md").read_text()))
    for name, service in services.items():
        for setting, value in service.get("environment", {}).items():
            if setting.startswith("CARILLON_"):
                assert setting.removesuffix("_FILE") in known
                if re.search("SECRET|KEY|DATABASE_URL", setting):
                    assert value.startswith("/run/secrets/"), f"{name}: {setting}"
        if name.rpartition("-")[0] in ("api", "edge", "worker"):
            assert service["environment"]["CARILLON_NODE_NAME"] == name
            assert service["read_only"] and service["cap_drop"] == ["ALL"]
            assert int(service["stop_grace_period"].rstrip("s")) > int(service["environment"]["CARILLON_DRAIN_SECONDS"])
        for source in (entry.split(":")[0] for entry in service.get("volumes", []) if entry.startswith("./")):
            assert (DEPLOY / source).exists()
    # HAProxy alone is reached from outside.
    assert [name for name, service in services.items() if "ports" in service] == ["haproxy"]
