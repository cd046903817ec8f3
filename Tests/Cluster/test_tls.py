"""Postgres and Redis over TLS, each side with a certificate; and what is said of servers that are not whom they should be."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from servers import Postgres, Redis, World, until


def openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


class Authority:
    """Who vouches for servers and nodes."""

    def __init__(self, folder, name="authority"):
        self.folder, self.name = Path(folder), name
        self.certificate, self.key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj", f"/CN={name}",
            "-keyout", self.key, "-out", self.certificate)  # fmt: skip

    def issue(self, name, *names, expired=False):
        """A certificate of that common name for these hosts, and its key, readable by who it is for."""
        certificate, key, request, extensions = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions.write_text("basicConstraints=CA:FALSE\n" + (f"subjectAltName={','.join(names)}\n" if names else ""))
        # Days count from now: a certificate of no time at all is over at once.
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", -1 if expired else 2, "-extfile", extensions,
            "-out", certificate)  # fmt: skip
        key.chmod(0o600)
        return certificate, key


class SecureRedis(Redis):
    """Takes TLS alone, from who has a certificate."""

    def __init__(self, folder, authority, certificate, client, name="redis"):
        self.authority, self.certificate, self.client = authority, certificate, client
        super().__init__(folder, name=name)

    def start(self, *options):
        certificate, key = self.certificate
        self.spawn([
            "redis-server", "--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1", "--dir", self.home, "--save", "",
            "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(self.authority.certificate), *options])  # fmt: skip
        until(lambda: self.cli("PING") == "PONG", "Redis to start")

    def cli(self, *words):
        certificate, key = self.client
        return subprocess.run(
            ["redis-cli", "--tls", "--insecure", "--cert", str(certificate), "--key", str(key), "-h", "127.0.0.1", "-p", str(self.port), *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # fmt: skip

    @property
    def url(self):
        return f"rediss://localhost:{self.port}"


def give_to_postgres(authority, certificate, key):
    """Settings of a server with that certificate."""
    if Postgres.user:
        owner = pwd.getpwnam(Postgres.user)
        os.chown(key, owner.pw_uid, owner.pw_gid)
    return {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": authority.certificate}


class SecureWorld(World):
    """Every connection of the nodes is encrypted, and known by its certificate on both sides."""

    def make_postgres(self, folder):
        # Debian's libpq and Postgres' user read them there.
        self.certificates = Path(folder, "certificates")
        self.certificates.mkdir(mode=0o755)
        self.authority = Authority(self.certificates)
        self.node = self.authority.issue("carillon")
        self.server = self.authority.issue("postgres", "DNS:localhost")
        self.make_redis = lambda folder: SecureRedis(folder, self.authority, self.authority.issue("redis", "DNS:localhost"), self.node)
        return Postgres(folder, settings=give_to_postgres(self.authority, *self.server))

    def database_url(self, places):
        # From here on nobody but superusers of this machine's own tools come in without.
        rules = "hostssl carillon carillon all cert\nhost postgres carillon 127.0.0.1/32 trust\n"
        Path(self.postgres.data, "pg_hba.conf").write_text(rules)
        self.postgres.sql("SELECT pg_reload_conf()")
        certificate, key = self.node
        self.settings |= {
            "CARILLON_REDIS_CA_FILE": str(self.authority.certificate), "CARILLON_REDIS_CERTIFICATE_FILE": str(certificate),
            "CARILLON_REDIS_KEY_FILE": str(key),
        }  # fmt: skip
        return self.secure_url()

    def secure_url(self, host="localhost", authority=None, certificate=True):
        found = f"postgresql://carillon@{host}:{self.postgres.port}/carillon?sslmode=verify-full&sslrootcert={(authority or self.authority).certificate}"
        return found + (f"&sslcert={self.node[0]}&sslkey={self.node[1]}" if certificate else "")

    def check(self, **changes):
        """What `carillon check` says of both servers."""
        done = subprocess.run(
            [self.binary, "check"], env=self.environment | changes, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd="/")
        return {line.split()[1].rstrip(":"): line for line in done.stdout.splitlines() if line.startswith(("ok", "FAILED"))}


@pytest.fixture(scope="module")
def world():
    with SecureWorld(workers=1) as made:
        yield made


def test_a_cluster_over_tls_with_certificates_on_both_sides(world):
    user = world.user()
    with world.stream(user) as stream:
        stream.expect("ready")
        made = world.notify(user)
        assert stream.expect("message").data["id"] == made["id"]
    seen = world.postgres.sql(
        "SELECT DISTINCT ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = 'carillon'")
    assert seen == "t|/CN=carillon"
    assert all(node.is_whole() for node in world.nodes)
    found = world.check()
    assert found["postgres"].startswith("ok") and found["redis"].startswith("ok"), found


def test_what_is_not_whom_it_should_be_is_refused_and_named(world):
    stranger = Authority(world.certificates, "stranger")
    found = world.check(CARILLON_DATABASE_URL=world.secure_url(authority=stranger), CARILLON_REDIS_CA_FILE=str(stranger.certificate))
    assert "certificate verify failed" in found["postgres"] and "sslrootcert" in found["postgres"], found
    assert "of no trusted authority, or has expired" in found["redis"], found

    found = world.check(CARILLON_DATABASE_URL=world.secure_url(host="127.0.0.1"), CARILLON_REDIS_URL=world.redis.url.replace("localhost", "127.0.0.1"))
    assert 'does not match host name "127.0.0.1"' in found["postgres"], found
    assert found["redis"].startswith("FAILED") and "check certificates and names" in found["redis"], found

    found = world.check(
        CARILLON_DATABASE_URL=world.secure_url(certificate=False), CARILLON_REDIS_CERTIFICATE_FILE="", CARILLON_REDIS_KEY_FILE="")
    assert "connection requires a valid client certificate" in found["postgres"], found
    assert found["redis"].startswith("FAILED"), found


def test_certificates_that_have_expired_are_refused_and_named_and_a_node_comes_back_with_new_ones(world):
    before = {path: path.read_bytes() for path in (*world.redis.certificate, *world.server)}
    redis, postgres = (world.authority.issue(name, "DNS:localhost", expired=True) for name in ("redis", "postgres"))
    give_to_postgres(world.authority, *postgres)
    try:
        world.postgres.sql("SELECT pg_reload_conf()")
        world.redis.kill()
        world.redis.start()
        found = world.check()
        assert "certificate verify failed" in found["postgres"] and "has expired" in found["postgres"], found
        assert "of no trusted authority, or has expired" in found["redis"], found
        # A node without either server is of no use, and says so; one that has just begun waits with its port closed.
        world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'carillon'")
        edge = world.edges[0]
        until(lambda: edge.health()[0] == 503, "the edge to be of no use")
        until(lambda: Path(edge.log).read_text().count("has expired") >= 2, "its reasons in the log")
    finally:
        for path, content in before.items():
            path.write_bytes(content)
        world.postgres.sql("SELECT pg_reload_conf()")
        world.redis.kill()
        world.redis.start()
    world.wait_until_whole()


@pytest.mark.parametrize(
    "changes",
    [
        {"CARILLON_REDIS_CA_FILE": "/nowhere/ca.pem"},
        {"CARILLON_REDIS_KEY_FILE": ""},
        {"CARILLON_REDIS_CERTIFICATE_FILE": "/etc/hostname"},
        {"CARILLON_REDIS_URL": "redis://localhost"},
        {"CARILLON_DATABASE_POOLER": "pgbouncer"},
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(world, changes):
    done = subprocess.run(
        [world.binary, "serve", "--roles", "edge"], env=world.environment | changes, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, cwd="/")
    assert done.returncode != 0
    name = next(iter(changes)) if "CARILLON_REDIS_URL" not in changes else "CARILLON_REDIS_CA_FILE"
    assert name in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
