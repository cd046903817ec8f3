-- The queue: what is to be done outside of Postgres, and is done at least once. A task is written in the transaction of what it is about.

CREATE TABLE tasks (
    id              uuid PRIMARY KEY,                 -- version 7: the same over all attempts
    queue           text COLLATE "C" NOT NULL,        -- a channel, or another kind: each is worked off by itself
    key             text COLLATE "C" NOT NULL,        -- keys take turns, however much waits for one of them: the customer, or an address
    priority        smallint NOT NULL,                -- of one key's the higher go first
    state           smallint NOT NULL CHECK (state BETWEEN 0 AND 4),  -- 0 ready, 1 waiting for its time, 2 running, 3 dead, 4 handed over
    run_at          timestamptz NOT NULL,             -- ready since; ready then; the lease's end; dead since; ready again then
    attempts        smallint NOT NULL DEFAULT 0,      -- begun, but for those whose worker fell silent
    losses          smallint NOT NULL DEFAULT 0,      -- of workers that fell silent, one after the other
    lease_owner     uuid,
    in_doubt        boolean NOT NULL DEFAULT false,   -- its lease ended, and its owner has a while to say that it lives
    user_id         text COLLATE "C",                 -- whose it is, if anybody's
    notification_id uuid,
    endpoint        text COLLATE "C" NOT NULL DEFAULT '',
    payload         text,                             -- what else the kind needs
    trace           text CHECK (octet_length(trace) = 55),  -- of the request that asked for it, if it is traced: its traceparent (W3C Trace Context)
    last_error      text,
    created_at      timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Claims go from key to key, and in each to the first that is ready. What waits for its time is not in their way.
CREATE INDEX tasks_ready ON tasks (queue, key, priority DESC, run_at) WHERE state = 0;
CREATE INDEX tasks_time ON tasks (queue, state, run_at, id);
CREATE INDEX tasks_user ON tasks (user_id, id) WHERE user_id IS NOT NULL;

-- When somebody last looked for work in a queue, to a minute.
CREATE TABLE task_queues (
    queue     text COLLATE "C" PRIMARY KEY,
    worked_at timestamptz NOT NULL
);

-- The channel whose deliveries a queue's tasks are about.
CREATE FUNCTION task_channel(p_queue text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_queue WHEN 'digest' THEN 'email' ELSE p_queue END
$$;

-- Those of these queues of which a claim would change something.
CREATE FUNCTION ready_queues(p_queues text[]) RETURNS SETOF text LANGUAGE plpgsql STABLE
-- Walks along an index, whatever is known of the table: planned once a connection, which takes longer than the walk.
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    -- Index: tasks_time, one probe a queue and state.
    RETURN QUERY SELECT q.name FROM unnest(p_queues) AS q(name)
    WHERE EXISTS (SELECT FROM unnest('{0, 1, 2, 4}'::smallint[]) AS s(state) CROSS JOIN LATERAL (
        SELECT FROM tasks t WHERE t.queue = q.name AND t.state = s.state AND t.run_at <= now() ORDER BY t.run_at LIMIT 1) AS due);
END
$$;

-- Takes ready tasks: of up to p_limit keys, beginning behind p_after and going round, to each the same share, at most p_per_key. p_busy are keys that have
-- enough under way. What it takes is leased to p_owner, and the delivery that it is about becomes "sending". With p_whole it takes all that is ready of each
-- key, which is a user, and no two claims a part of it. With p_hand_over it takes them to hand them over to a message queue, while those of p_bound are there: see
-- 0010_hand_over.sql.
--
-- Before that it makes ready what has waited for its time, and what was leased to somebody who fell silent. Leases that nobody could renew, since Postgres was
-- away or its clock was put forward, all end at once: each owner has half a lease from then on to say that it lives. An attempt that nobody heard of does not
-- count; what ten workers in a row fell silent over is dead.
CREATE FUNCTION claim_tasks(
    p_queue text, p_owner uuid, p_lease interval, p_limit integer, p_per_key integer, p_after text, p_busy text[], p_whole boolean,
    p_hand_over boolean DEFAULT false, p_bound integer DEFAULT 2000
) RETURNS TABLE (
    id uuid, key text, priority smallint, attempts smallint, user_id text, notification_id uuid, endpoint text, payload text, created_at timestamptz,
    trace text
) LANGUAGE plpgsql
-- These are walks along an index, whatever is known of the table: it may have been empty when the plan was made.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz := clock_timestamp();
    v_first text;
    v_key   text;
    v_keys  text[] := '{}';
    v_share integer;
BEGIN
    -- One after the other: rows that another claim has locked would be passed over. What is handed over of digests is such a claim's as well.
    IF p_whole OR (p_hand_over AND p_queue = 'digest') THEN PERFORM pg_advisory_xact_lock(hashtext('carillon.claim'), hashtext(p_queue)); END IF;

    -- Index: task_queues_pkey. A write once a minute: one that changes nothing would lock the row as well, and claims would wait for each other.
    IF NOT EXISTS (SELECT FROM task_queues q WHERE q.queue = p_queue AND q.worked_at >= v_now - interval '1 minute') THEN
        INSERT INTO task_queues AS q (queue, worked_at) VALUES (p_queue, v_now)
        ON CONFLICT (queue) DO UPDATE SET worked_at = v_now WHERE q.worked_at < v_now - interval '1 minute';
    END IF;

    -- Index: tasks_time.
    UPDATE tasks SET state = 0 WHERE id IN (
        SELECT t.id FROM tasks t WHERE t.queue = p_queue AND t.state = 1 AND t.run_at <= v_now ORDER BY t.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    UPDATE tasks SET state = 0, lease_owner = NULL WHERE id IN (
        SELECT t.id FROM tasks t WHERE t.queue = p_queue AND t.state = 4 AND t.run_at <= v_now ORDER BY t.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    WITH lost AS (
        UPDATE tasks SET state = CASE WHEN losses >= 9 THEN 3 ELSE 0 END, attempts = GREATEST(attempts - 1, 0), losses = losses + 1, lease_owner = NULL, in_doubt = false,
                         last_error = COALESCE(last_error, 'the worker fell silent')
        WHERE id IN (SELECT t.id FROM tasks t WHERE t.queue = p_queue AND t.state = 2 AND t.run_at <= v_now AND t.in_doubt ORDER BY t.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
        RETURNING id, state, user_id, notification_id, endpoint
    ), told AS (
        UPDATE webhook_deliveries d SET state = 'failed', at = v_now FROM lost WHERE lost.state = 3 AND d.id = lost.id
    )
    UPDATE deliveries d SET state = 'dead', reason = 'whoever attempted it fell silent each time', at = v_now FROM lost
    WHERE lost.state = 3 AND d.user_id = lost.user_id AND d.notification_id = lost.notification_id AND d.channel = task_channel(p_queue) AND d.endpoint = lost.endpoint;
    UPDATE tasks SET in_doubt = true, run_at = v_now + p_lease / 2 WHERE id IN (
        SELECT t.id FROM tasks t WHERE t.queue = p_queue AND t.state = 2 AND t.run_at <= v_now AND NOT t.in_doubt ORDER BY t.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);

    IF p_hand_over THEN
        -- There they take no turns any more: only so many are there at once, of all and of a key. Of a key only the first two count towards the bound of all, so that
        -- keys which have all that they may there, and get nowhere, leave it to the others. Index: tasks_time.
        SELECT LEAST(p_limit, p_bound - COALESCE(sum(LEAST(k.n, 2)), 0)), p_busy || COALESCE(array_agg(k.key) FILTER (WHERE k.n >= p_per_key), '{}')
        INTO p_limit, p_busy
        FROM (SELECT t.key, count(*) AS n FROM tasks t WHERE t.queue = p_queue AND t.state = 4 GROUP BY t.key) k;
    END IF;

    -- Index: tasks_ready, one probe a key.
    SELECT t.key INTO v_first FROM tasks t WHERE t.queue = p_queue AND t.state = 0 AND t.key > p_after ORDER BY t.key LIMIT 1;
    IF v_first IS NULL THEN
        SELECT t.key INTO v_first FROM tasks t WHERE t.queue = p_queue AND t.state = 0 ORDER BY t.key LIMIT 1;
    END IF;
    v_key := v_first;
    FOR i IN 1 .. p_limit + cardinality(p_busy) LOOP
        EXIT WHEN v_key IS NULL OR cardinality(v_keys) >= p_limit;
        IF v_key <> ALL (p_busy) THEN v_keys := v_keys || v_key; END IF;
        SELECT t.key INTO v_key FROM tasks t WHERE t.queue = p_queue AND t.state = 0 AND t.key > v_key ORDER BY t.key LIMIT 1;
        IF v_key IS NULL AND v_first > '' THEN
            -- Round to the beginning, once.
            SELECT t.key INTO v_key FROM tasks t WHERE t.queue = p_queue AND t.state = 0 AND t.key < v_first ORDER BY t.key LIMIT 1;
            v_first := '';
        END IF;
        EXIT WHEN v_key = ANY (v_keys);
    END LOOP;
    IF v_keys = '{}' THEN RETURN; END IF;
    v_share := LEAST(p_per_key, GREATEST(1, p_limit / cardinality(v_keys)));

    RETURN QUERY
    WITH picked AS MATERIALIZED (
        -- Also what is ready in a moment: what failed together comes back together. Nothing while some of it is under way still. Index: tasks_user.
        SELECT p.id FROM unnest(v_keys) AS k(key) CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t WHERE p_whole AND t.user_id = k.key AND t.queue = p_queue AND t.state IN (0, 1) AND t.run_at <= v_now + interval '2 seconds'
                AND NOT EXISTS (SELECT FROM tasks r WHERE r.user_id = k.key AND r.queue = p_queue AND r.state = 2)
            ORDER BY t.id LIMIT 1000 FOR UPDATE SKIP LOCKED) p
        UNION ALL
        SELECT p.id FROM unnest(v_keys) AS k(key) CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t WHERE NOT p_whole AND t.queue = p_queue AND t.state = 0 AND t.key = k.key
            ORDER BY t.priority DESC, t.run_at LIMIT v_share FOR UPDATE SKIP LOCKED) p
    ), claimed AS (
        UPDATE tasks t SET state = CASE WHEN p_hand_over THEN 4 ELSE 2 END, lease_owner = p_owner, run_at = clock_timestamp() + p_lease,
                           attempts = t.attempts + CASE WHEN p_hand_over THEN 0 ELSE 1 END
        FROM picked p WHERE t.id = p.id
        RETURNING t.id, t.key, t.priority, t.attempts, t.user_id, t.notification_id, t.endpoint, t.payload, t.created_at, t.trace
    ), sending AS (
        UPDATE deliveries d SET state = 'sending', attempts = c.attempts, at = v_now
        FROM claimed c
        WHERE NOT p_hand_over AND d.user_id = c.user_id AND d.notification_id = c.notification_id AND d.channel = task_channel(p_queue) AND d.endpoint = c.endpoint
    )
    SELECT * FROM claimed;
END $$;

-- What became of tasks, many in one statement. Outcomes: 0 over, 1 again after so many milliseconds, 2 dead, 3 the same as 1 and no attempt. That one is over is
-- a fact, whoever holds the lease by now; the rest counts only from the one who does. One that is dead stays so, unless it was sent after all. The delivery follows.
CREATE FUNCTION finish_tasks(
    p_owner uuid, p_ids uuid[], p_outcomes smallint[], p_states text[], p_reasons text[], p_references text[], p_milliseconds bigint[]
) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_rows integer;
BEGIN
    -- In one order, as leases are renewed: two who lock the same rows wait for each other, and never both. Index: tasks_pkey.
    PERFORM FROM tasks t WHERE t.id = ANY (p_ids) ORDER BY t.id FOR UPDATE;
    WITH result AS MATERIALIZED (
        SELECT * FROM unnest(p_ids, p_outcomes, p_states, p_reasons, p_references, p_milliseconds) AS r(id, outcome, state, reason, reference, wait)
    ), over AS (
        DELETE FROM tasks t USING result r WHERE t.id = r.id AND r.outcome = 0 AND (t.state <> 3 OR r.state IN ('sent', 'delivered'))
        RETURNING t.id, t.queue, t.user_id, t.notification_id, t.endpoint, t.attempts, r.state, r.reason, r.reference, NULL::timestamptz AS not_before
    ), kept AS (
        UPDATE tasks t SET state = CASE WHEN r.outcome = 2 THEN 3 WHEN r.wait > 0 THEN 1 ELSE 0 END, run_at = v_now + r.wait * interval '1 millisecond',
                           attempts = t.attempts - CASE r.outcome WHEN 3 THEN 1 ELSE 0 END, losses = 0, lease_owner = NULL, in_doubt = false, last_error = COALESCE(r.reason, t.last_error)
        FROM result r WHERE t.id = r.id AND r.outcome > 0 AND t.state = 2 AND t.lease_owner = p_owner
        RETURNING t.id, t.queue, t.user_id, t.notification_id, t.endpoint, t.attempts, CASE r.outcome WHEN 2 THEN 'dead' ELSE 'queued' END AS state,
                  t.last_error AS reason, r.reference, CASE WHEN r.outcome <> 2 AND r.wait > 0 THEN t.run_at END AS not_before
    ), changed AS (
        SELECT * FROM over UNION ALL SELECT * FROM kept
    ), told AS (
        -- What its handler could not note, or had no reason to. Index: webhook_deliveries_pkey.
        UPDATE webhook_deliveries d SET state = CASE c.state WHEN 'delivered' THEN 'delivered' ELSE 'failed' END, at = v_now
        FROM over c WHERE c.queue IN ('webhook', 'webhook.held') AND d.id = c.id AND (d.state = 'queued' OR c.state = 'delivered')
    ), followed AS (
        UPDATE deliveries d SET state = c.state, reason = c.reason, reference = COALESCE(c.reference, d.reference), attempts = c.attempts,
                                not_before = c.not_before, at = v_now
        FROM changed c
        WHERE d.user_id = c.user_id AND d.notification_id = c.notification_id AND d.channel = task_channel(c.queue) AND d.endpoint = c.endpoint
    )
    SELECT count(*)::integer INTO v_rows FROM changed;
    RETURN v_rows;
END $$;

-- A dead one once more, from the first attempt on; false when there is no such one.
CREATE FUNCTION retry_task(p_id uuid, OUT queue text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    t tasks%ROWTYPE;
BEGIN
    UPDATE tasks SET state = 0, run_at = clock_timestamp(), attempts = 0, losses = 0 WHERE id = p_id AND state = 3 RETURNING * INTO t;
    IF NOT FOUND THEN RETURN; END IF;
    UPDATE deliveries SET state = 'queued', at = clock_timestamp()
    WHERE user_id = t.user_id AND notification_id = t.notification_id AND channel = task_channel(t.queue) AND endpoint = t.endpoint;
    -- Index: webhook_deliveries_pkey.
    UPDATE webhook_deliveries SET state = 'queued', at = clock_timestamp() WHERE id = p_id AND state = 'failed';
    queue := t.queue;
END $$;

-- Keeps what a request with an Idempotency-Key is answered, of which claim_request said that it is the first; without an answer it is as if there had been none.
CREATE FUNCTION keep_answer(p_owner uuid, p_route text, p_key text, p_status integer, p_body text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_key IS NULL THEN RETURN; END IF;
    IF p_body IS NULL THEN
        DELETE FROM idempotency WHERE owner = p_owner AND route = p_route AND key = p_key;
    ELSE
        UPDATE idempotency SET answer = format('{"status":%s,"body":%s}', p_status, to_json(p_body)) WHERE owner = p_owner AND route = p_route AND key = p_key;
    END IF;
END $$;

-- The same, once for each claim of a request, whose answer is kept with it.
CREATE FUNCTION retry_task_once(
    p_id uuid, p_owner uuid, p_route text, p_key text, p_digest bytea, OUT repeated boolean, OUT queue text
) LANGUAGE plpgsql AS $$
BEGIN
    repeated := NOT claim_request(p_owner, p_route, p_key, p_digest, '');
    IF repeated THEN RETURN; END IF;
    queue := retry_task(p_id);
    PERFORM keep_answer(p_owner, p_route, p_key, 200, format('{"id":"%s","queue":"', p_id) || queue || '","state":"queued"}');
END $$;

-- Ends what has been due for p_after in queues that nobody has worked off for as long: no worker has the channel's settings any more. p_mine are those of the caller.
-- At most p_limit; answers how many.
CREATE FUNCTION end_unworked_tasks(p_after interval, p_mine text[], p_limit integer) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz := clock_timestamp();
    v_queue text := '';
    v_left  integer := p_limit;
    v_rows  integer;
BEGIN
    LOOP
        -- Index: tasks_time, one probe a queue.
        SELECT t.queue INTO v_queue FROM tasks t WHERE t.queue > v_queue ORDER BY t.queue LIMIT 1;
        EXIT WHEN v_queue IS NULL OR v_left <= 0;
        CONTINUE WHEN v_queue = 'webhook.held' OR v_queue = ANY (p_mine)
            OR EXISTS (SELECT FROM task_queues q WHERE q.queue = v_queue AND q.worked_at > v_now - p_after);
        WITH gone AS (
            DELETE FROM tasks WHERE id IN (
                SELECT p.id FROM (VALUES (0::smallint), (1::smallint), (2::smallint), (4::smallint)) AS s(state) CROSS JOIN LATERAL (
                    SELECT t.id FROM tasks t WHERE t.queue = v_queue AND t.state = s.state AND t.run_at < v_now - p_after
                    ORDER BY t.run_at LIMIT v_left FOR UPDATE SKIP LOCKED) p LIMIT v_left)
            RETURNING id, user_id, notification_id, endpoint
        ), told AS (
            UPDATE webhook_deliveries d SET state = 'failed', at = v_now FROM gone WHERE d.id = gone.id
        ), followed AS (
            UPDATE deliveries d SET state = 'suppressed', reason = 'not_configured', not_before = NULL, at = v_now FROM gone
            WHERE d.user_id = gone.user_id AND d.notification_id = gone.notification_id AND d.channel = task_channel(v_queue) AND d.endpoint = gone.endpoint
        )
        SELECT count(*)::integer INTO v_rows FROM gone;
        v_left := v_left - v_rows;
    END LOOP;
    RETURN p_limit - v_left;
END $$;
