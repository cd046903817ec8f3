-- The queue: what is to be done outside of Postgres, and is done at least once. A task is written in the transaction of what it is about.

CREATE TABLE tasks (
    id              uuid PRIMARY KEY,                 -- version 7: the same over all attempts
    queue           text COLLATE "C" NOT NULL,        -- a channel, or another kind: each is worked off by itself
    key             text COLLATE "C" NOT NULL,        -- keys take turns, however much waits for one of them: the customer, or an address
    priority        smallint NOT NULL,                -- of one key's the higher go first
    state           smallint NOT NULL CHECK (state BETWEEN 0 AND 3),  -- 0 ready, 1 waiting for its time, 2 running, 3 dead
    run_at          timestamptz NOT NULL,             -- ready since; ready then; the lease's end; dead since
    attempts        smallint NOT NULL DEFAULT 0,      -- begun
    lease_owner     uuid,
    user_id         text COLLATE "C",                 -- whose it is, if anybody's
    notification_id uuid,
    endpoint        text COLLATE "C" NOT NULL DEFAULT '',
    payload         text,                             -- what else the kind needs
    last_error      text,
    created_at      timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Claims go from key to key, and in each to the first that is ready. What waits for its time is not in their way.
CREATE INDEX tasks_ready ON tasks (queue, key, priority DESC, run_at) WHERE state = 0;
CREATE INDEX tasks_time ON tasks (queue, state, run_at, id);
CREATE INDEX tasks_user ON tasks (user_id, id) WHERE user_id IS NOT NULL;

-- The channel whose deliveries a queue's tasks are about.
CREATE FUNCTION task_channel(p_queue text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_queue WHEN 'digest' THEN 'email' ELSE p_queue END
$$;

-- Takes ready tasks: of up to p_limit keys, beginning behind p_after and going round, to each the same share, at most p_per_key. p_busy are keys that have
-- enough under way. What it takes is leased to p_owner, and the delivery that it is about becomes "sending". With p_whole it takes all that is ready of each
-- key, which is a user, and no two claims a part of it.
--
-- Before that it makes ready what has waited for its time, and what was leased to somebody who fell silent. A worker could not keep its leases while
-- Postgres was away: they hold for as long again after a start.
CREATE FUNCTION claim_tasks(
    p_queue text, p_owner uuid, p_lease interval, p_limit integer, p_per_key integer, p_after text, p_busy text[], p_whole boolean
) RETURNS TABLE (
    id uuid, key text, priority smallint, attempts smallint, user_id text, notification_id uuid, endpoint text, payload text, created_at timestamptz
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
    -- One after the other: rows that another claim has locked would be passed over.
    IF p_whole THEN PERFORM pg_advisory_xact_lock(hashtext('carillon.claim'), hashtext(p_queue)); END IF;

    -- Index: tasks_time.
    UPDATE tasks SET state = 0 WHERE id IN (
        SELECT t.id FROM tasks t WHERE t.queue = p_queue AND t.state = 1 AND t.run_at <= v_now ORDER BY t.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    IF pg_postmaster_start_time() < v_now - p_lease THEN
        UPDATE tasks SET state = 0, lease_owner = NULL, last_error = COALESCE(last_error, 'the worker fell silent') WHERE id IN (
            SELECT t.id FROM tasks t WHERE t.queue = p_queue AND t.state = 2 AND t.run_at <= v_now ORDER BY t.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    END IF;

    -- Index: tasks_ready, one probe a key.
    SELECT t.key INTO v_first FROM tasks t WHERE t.queue = p_queue AND t.state = 0 AND t.key > p_after ORDER BY t.key LIMIT 1;
    IF v_first IS NULL THEN
        SELECT t.key INTO v_first FROM tasks t WHERE t.queue = p_queue AND t.state = 0 ORDER BY t.key LIMIT 1;
    END IF;
    v_key := v_first;
    FOR i IN 1 .. p_limit LOOP
        EXIT WHEN v_key IS NULL;
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
        -- Also what is ready and was not made so above. Index: tasks_user.
        SELECT p.id FROM unnest(v_keys) AS k(key) CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t WHERE p_whole AND t.user_id = k.key AND t.queue = p_queue AND t.state IN (0, 1) AND t.run_at <= v_now
            ORDER BY t.id LIMIT 1000 FOR UPDATE SKIP LOCKED) p
        UNION ALL
        SELECT p.id FROM unnest(v_keys) AS k(key) CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t WHERE NOT p_whole AND t.queue = p_queue AND t.state = 0 AND t.key = k.key
            ORDER BY t.priority DESC, t.run_at LIMIT v_share FOR UPDATE SKIP LOCKED) p
    ), claimed AS (
        UPDATE tasks t SET state = 2, lease_owner = p_owner, run_at = clock_timestamp() + p_lease, attempts = t.attempts + 1
        FROM picked p WHERE t.id = p.id
        RETURNING t.id, t.key, t.priority, t.attempts, t.user_id, t.notification_id, t.endpoint, t.payload, t.created_at
    ), sending AS (
        UPDATE deliveries d SET state = 'sending', attempts = c.attempts, at = v_now
        FROM claimed c
        WHERE d.user_id = c.user_id AND d.notification_id = c.notification_id AND d.channel = task_channel(p_queue) AND d.endpoint = c.endpoint
    )
    SELECT * FROM claimed;
END $$;

-- What became of tasks, many in one statement. Outcomes: 0 over, 1 again after so many milliseconds, 2 dead, 3 the same as 1 and no attempt. That one is over is
-- a fact, whoever holds the lease by now; the rest counts only from the one who does. The delivery follows.
CREATE FUNCTION finish_tasks(
    p_owner uuid, p_ids uuid[], p_outcomes smallint[], p_states text[], p_reasons text[], p_references text[], p_milliseconds bigint[]
) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_rows integer;
BEGIN
    WITH result AS MATERIALIZED (
        SELECT * FROM unnest(p_ids, p_outcomes, p_states, p_reasons, p_references, p_milliseconds) AS r(id, outcome, state, reason, reference, wait)
    ), over AS (
        DELETE FROM tasks t USING result r WHERE t.id = r.id AND r.outcome = 0 AND t.state <> 3
        RETURNING t.queue, t.user_id, t.notification_id, t.endpoint, t.attempts, r.state, r.reason, r.reference, NULL::timestamptz AS not_before
    ), kept AS (
        UPDATE tasks t SET state = CASE WHEN r.outcome = 2 THEN 3 WHEN r.wait > 0 THEN 1 ELSE 0 END, run_at = v_now + r.wait * interval '1 millisecond',
                           attempts = t.attempts - CASE r.outcome WHEN 3 THEN 1 ELSE 0 END, lease_owner = NULL, last_error = COALESCE(r.reason, t.last_error)
        FROM result r WHERE t.id = r.id AND r.outcome > 0 AND t.state = 2 AND t.lease_owner = p_owner
        RETURNING t.queue, t.user_id, t.notification_id, t.endpoint, t.attempts, CASE r.outcome WHEN 2 THEN 'dead' ELSE 'queued' END AS state,
                  t.last_error AS reason, r.reference, CASE WHEN r.outcome <> 2 AND r.wait > 0 THEN t.run_at END AS not_before
    ), changed AS (
        SELECT * FROM over UNION ALL SELECT * FROM kept
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
    UPDATE tasks SET state = 0, run_at = clock_timestamp(), attempts = 0 WHERE id = p_id AND state = 3 RETURNING * INTO t;
    IF NOT FOUND THEN RETURN; END IF;
    UPDATE deliveries SET state = 'queued', at = clock_timestamp()
    WHERE user_id = t.user_id AND notification_id = t.notification_id AND channel = task_channel(t.queue) AND endpoint = t.endpoint;
    queue := t.queue;
END $$;
