"""pgbench (Debian: postgresql), and the scripts of what Carillon's writes are compared with."""

import os
import re
import subprocess
from pathlib import Path

from measuring import Failed

# The members of a notification's JSON that are stored, as `notify` makes them.
BODY = ('"type":"chat","event":"message_received","level":"INFO","priority":"MEDIUM","title":"New message","content":"' + "x" * 60 +
        '","link_url":null,"link_text":null,"customer_id":null,"rec_type":null,"rec_id":null,"data":null,'
        '"created_at":"2026-01-01T00:00:00.000Z","expires_at":null')


# Nodes turn it off for themselves: to compile a plan takes longer than to carry it out.
ENVIRONMENT = {**os.environ, "PGOPTIONS": "-c jit=off"}


def rate(cluster, name, script, *options):
    """Transactions a second."""
    path = Path(cluster.files, name + ".sql")
    path.write_text(script)
    run = subprocess.run(["pgbench", "-n", "-M", "prepared", "-f", str(path), *map(str, options), cluster.env["CARILLON_DATABASE_URL"]],
                         env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    found = re.search(r"tps = ([\d.]+)", run)
    if not found or re.search(r"failed transactions: [1-9]", run):
        raise Failed("pgbench: " + " ".join(run.split()[-60:]))
    return float(found[1])


def steady_rate(cluster, name, script, seconds, *options, warm=3):
    """The same once every connection has its plans, which the writing function has many of: without the first seconds."""
    path = Path(cluster.files, name + ".sql")
    path.write_text(script)
    run = subprocess.run(["pgbench", "-n", "-M", "prepared", "-P", "1", "-T", f"{warm + seconds:.0f}", "-f", str(path), *map(str, options),
                          cluster.env["CARILLON_DATABASE_URL"]], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    parts = [(float(at), float(tps)) for at, tps in re.findall(r"progress: ([\d.]+) s, ([\d.]+) tps", run)]
    late = [(at - before, tps) for (before, _), (at, tps) in zip(parts, parts[1:]) if before >= warm - 0.5]
    if not late or re.search(r"failed transactions: [1-9]|, [1-9]\d* failed", run):
        raise Failed("pgbench: " + " ".join(run.split()[-60:]))
    return sum(length * tps for length, tps in late) / sum(length for length, _ in late)


def apply_changes(cluster, prefix, users, rows):
    """A script that calls the function of all inbox writes as a node does: one notification for each of so many random users a call."""
    names = cluster.sql("SELECT array_to_string(proargnames[1:pronargs], ',') || ';' || array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) t), ',') "
                        "FROM pg_proc WHERE proname = 'apply_changes'")
    parameters = list(zip(*(part.split(",") for part in names.split(";"))))
    values = {
        "p_batch": "gen_random_uuid()", "p_again": "false", "p_users": "users", "p_ops": "array_fill(1::smallint, ARRAY[n])", "p_ids": "ids",
        "p_types": "array_fill('chat'::text, ARRAY[n])", "p_events": "array_fill('message_received'::text, ARRAY[n])",
        "p_levels": "array_fill(0::smallint, ARRAY[n])", "p_priorities": "array_fill(1::smallint, ARRAY[n])",
        # pgbench takes a colon for the start of a variable.
        "p_bodies": f"ARRAY[convert_from('\\x{BODY.encode().hex()}'::bytea, 'UTF8')]",
        "p_body": "array_fill(1, ARRAY[n])", "p_created": "array_fill(now(), ARRAY[n])", "p_in_app": "array_fill(true, ARRAY[n])",
        "p_claims": "array_fill(0, ARRAY[n])",
    }
    empty = {"p_calls", "p_claim_owners", "p_claim_routes", "p_claim_keys", "p_claim_digests", "p_claim_answers"}
    arguments = []
    for name, kind in parameters:
        if name in values:
            arguments.append(f"{name} => {values[name]}")
        elif name in empty or not name.startswith("p_") or "deliver" in name and name != "p_deliver":
            arguments.append(f"{name} => '{{}}'::{kind}")
        else:
            arguments.append(f"{name} => array_fill(NULL::{kind.removesuffix('[]')}, ARRAY[n])")
    return f"""
        SELECT count(*) FROM (
            SELECT array_agg(u ORDER BY u COLLATE "C") AS users, array_agg(gen_random_uuid()) AS ids, count(*)::integer AS n
            FROM (SELECT DISTINCT '{prefix}' || floor(random() * {users})::integer AS u FROM generate_series(1, {rows})) AS t) AS x,
            apply_changes({", ".join(arguments)})""".replace("\n", " ")


def plain(prefix, users):
    """A script that does the least that such a write is, in one statement and so one transaction: the head's number and counts, and the row."""
    return f"""
        \\set u random(0, {users - 1})
        WITH h AS (UPDATE heads SET seq = seq + 1, unread = unread + 1, unseen = unseen + 1 WHERE user_id = '{prefix}' || :u RETURNING user_id, seq)
        INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, event, created_at, body)
        SELECT user_id, gen_random_uuid(), seq, seq, 0, 1, 'chat', 'message_received', now(), convert_from('\\x{BODY.encode().hex()}'::bytea, 'UTF8') FROM h;
        """
