"""Nodes that reach Postgres by way of PgBouncer in transaction mode, with fewer sessions of the server than they have connections."""

import http.server
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import requests
from carillon import LOCAL, bearer
from test_postgres_failover import Writers, make_synchronous, reader_knows_all, take_until

from servers import PATIENCE, Program, World, free_port, until

SESSIONS = 4


class PgBouncer(Program):
    """As it is shipped, but for addresses, users and the number of sessions."""

    user = "postgres" if os.geteuid() == 0 else None

    def __init__(self, folder):
        super().__init__("pgbouncer", folder)
        self.port = free_port()
        self.home = Path(folder, self.name)
        self.home.mkdir()
        (self.home / "users.txt").write_text('"carillon" ""\n')

    def lead_to(self, port):
        text = (Path(LOCAL).parent / "pgbouncer" / "pgbouncer.ini").read_text()
        for name, value in {
            "carillon": f"host=127.0.0.1 port={port} dbname=carillon", "listen_addr": "127.0.0.1", "listen_port": self.port, "auth_type": "trust",
            "auth_file": f"{self.home}/users.txt", "default_pool_size": SESSIONS,
        }.items():  # fmt: skip
            text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert found == 1, name
        (self.home / "pgbouncer.ini").write_text(text + "unix_socket_dir =\nadmin_users = carillon\n")

    def start(self):
        self.spawn(["pgbouncer", str(self.home / "pgbouncer.ini")], user=self.user)

    def command(self, word):
        subprocess.run(
            ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "carillon", "-d", "pgbouncer", "-c", word], stdin=subprocess.DEVNULL,
            capture_output=True, timeout=30, check=True)  # fmt: skip


class Pooled(World):
    def database_url(self, places):
        self.pooler = self._keep(PgBouncer(self.folder))
        self.pooler.lead_to(self.postgres.port)
        self.pooler.start()
        return f"postgresql://carillon@127.0.0.1:{self.pooler.port}/carillon"

    def sessions(self):
        return int(self.postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'carillon'"))


def reconnected(node):
    return sum(value for name, value in node.metrics().items() if name.startswith("carillon_postgres_reconnects_total"))


class Receiver:
    """An endpoint of webhooks that accepts everything."""

    def __init__(self):
        titles = self.titles = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                titles.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["data"]["title"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_everything_goes_through_a_few_sessions_and_outlives_the_pooler(tmp_path):
    mail = tmp_path / "mail"
    settings = {
        "CARILLON_SMTP_URL": f"file://{mail}", "CARILLON_SECRETS_KEY": "a key of the tests' own, long enough", "CARILLON_DELIVERY_LEASE_SECONDS": "4",
        "CARILLON_WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    }  # fmt: skip
    with Receiver() as receiver, Pooled(apis=2, edges=2, workers=1, settings=settings) as world:
        key = bearer(world.carillon("apikey", "create", "--name", "all", "--scopes", "notify,contacts,webhooks"))

        def ask(method, path, **body):
            answer = requests.request(method, world.apis[0].url + path, headers=key, json=body, timeout=PATIENCE)
            assert answer.status_code < 300, f"{answer.status_code}: {answer.text}"
            return answer.json()

        users, reader = [world.user() for _ in range(6)], world.user("reader")
        ask("PUT", f"/v1/contacts/{reader}", email="reader@example.org")
        ask("POST", "/v1/webhooks", url=receiver.url, events=["task.task_assigned"])
        streams = [world.stream(user, number % 2) for number, user in enumerate(users)]
        try:
            for stream in streams:
                stream.expect("ready")
            with Writers(world, users, threads=6) as writers:
                writers.wait_for(60, "sixty writes")
                assert world.sessions() <= SESSIONS
                crowd = [world.user("crowd") for _ in range(300)]
                job = ask("POST", "/v1/notifications/trigger", title="to all", user_ids=crowd)["job_id"]
                ask("POST", "/v1/internal/notify", title="by mail", user_ids=[reader], channels=["in_app", "email"])
                ask("POST", "/v1/internal/notify", title="called", type="task", event="task_assigned", user_ids=[reader])

                world.pooler.kill()
                world.pooler.start()
                writers.wait_for(60, "sixty writes after the pooler's end")

                # The connections to the pooler stay, and what they lead to is another session.
                world.postgres.stop("fast")
                world.postgres.start()
                writers.wait_for(60, "sixty writes after Postgres' restart")
                assert world.sessions() <= SESSIONS
                until(lambda: ask("GET", f"/v1/jobs/{job}")["state"] == "done", "the job to be done")
            assert writers.wrong == [], f"neither 201 nor 503: {writers.wrong[:3]}"
            assert ask("GET", f"/v1/jobs/{job}")["done"] == len(crowd)
            world.wait_until_whole()
            for stream, user in zip(streams, users):
                events = take_until(stream, world.notify(user, title="last"))
                assert {event.name for event in events} == {"message"}, "nothing that happened is a new life of the data"
                reader_knows_all(events, 0, world, user)
                assert world.get(user, "/count")["unread"] == len(events)
            stored = {item["id"] for user in users for item in world.inbox(user)}
            assert {made["id"] for made in writers.accepted} <= stored
            assert [item["title"] for item in world.inbox(crowd[-1])] == ["to all"]
            until(lambda: receiver.titles and list(mail.glob("*.json")), "an e-mail and a call")
            assert set(receiver.titles) == {"called"}
            assert "by mail" in next(mail.glob("*.json")).read_text()
            for node in world.nodes:
                assert '"pooler":"transaction"' in Path(node.log).read_text()
        finally:
            for stream in streams:
                stream.close()


def test_another_primary_behind_the_pooler_is_noticed_before_anything_is_written_to_it():
    with Pooled(replica=True) as world:
        make_synchronous(world)
        user = world.user()
        with world.stream(user) as stream:
            old_epoch = int(stream.expect("ready").id.split("-")[0])
            kept = [world.notify(user)["id"] for _ in range(3)]
            world.postgres.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
            world.postgres.sql("SELECT pg_reload_conf()")
            head = world.postgres.sql("SELECT pg_current_wal_flush_lsn()")
            until(lambda: world.replica.sql(f"SELECT pg_last_wal_replay_lsn() >= '{head}'") == "t", "the replica to catch up")
            world.replica.cut_from_primary()
            lost = [world.notify(user)["id"] for _ in range(4)]
            assert [stream.expect("message").data["id"] for _ in kept + lost] == kept + lost
            reconnects = reconnected(world.apis[0])

            # As it is done by hand: statements wait in the pooler meanwhile, and no connection to it ends.
            world.pooler.command("PAUSE")
            world.postgres.kill()
            world.replica.promote()
            world.pooler.lead_to(world.replica.port)
            world.pooler.command("RELOAD")
            world.pooler.command("RESUME")
            made = world.notify_when_possible(user)
            resync = stream.expect("resync")
            epoch, seq = (int(part) for part in resync.id.split("-"))
            # The new one was written before the streams were told, or after.
            assert epoch > old_epoch and seq in (3, 4)
            if seq == 3:
                assert stream.expect("message").id == f"{epoch}-4"
            assert made["seq"] == 4
            assert {item["id"] for item in world.inbox(user)} == {*kept, made["id"]}
            assert reconnected(world.apis[0]) > reconnects
