-- The queue by way of a message queue (Amazon SQS). Postgres keeps the tasks and their states; a message says no more than which task is ready. So a message
-- that comes twice, late, or for a task that is done, is harmless; and a task whose message is lost is handed over again.
--
--   0 ready ── claim_tasks(p_hand_over) ──▶ 4 handed over, for a lease ── sent ──▶ 4, until p_window ends: then ready again
--                                            └── refused by the message queue ──▶ 1 waiting, for a moment
--   0 or 4 ── its message comes: take_tasks ──▶ 2 running ── finish_tasks ──▶ gone, 1 waiting, or 3 dead
--                                                         └── its lease ends: claim_tasks ──▶ 0 ready

-- What came of handing tasks over. Those that others have by now are left alone. Index: tasks_pkey.
CREATE FUNCTION note_hand_over(p_queue text, p_owner uuid, p_ids uuid[], p_sent boolean[], p_window interval, p_pause interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- As claims of digests do: who takes all of a user's would pass over what is locked here, and take a part.
    IF p_queue = 'digest' THEN PERFORM pg_advisory_xact_lock(hashtext('carillon.claim'), hashtext(p_queue)); END IF;
    UPDATE tasks t SET state = CASE WHEN r.sent THEN 4 ELSE 1 END, lease_owner = CASE WHEN r.sent THEN p_owner END,
                       run_at = clock_timestamp() + CASE WHEN r.sent THEN p_window ELSE p_pause END
    FROM unnest(p_ids, p_sent) AS r(id, sent) WHERE t.id = r.id AND t.state = 4 AND t.lease_owner = p_owner;
END $$;

-- Takes the tasks that messages name, at most p_per_key of a key, none of p_busy; with p_whole all that is ready of their users, as claim_tasks does. Those
-- that cannot be had now come with "wait", after how many seconds to ask again; those that are not to be done now, or ever, do not come.
CREATE FUNCTION take_tasks(p_queue text, p_owner uuid, p_lease interval, p_ids uuid[], p_per_key integer, p_busy text[], p_whole boolean) RETURNS TABLE (
    id uuid, key text, priority smallint, attempts smallint, user_id text, notification_id uuid, endpoint text, payload text, created_at timestamptz, trace text,
    wait integer
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    IF p_whole THEN PERFORM pg_advisory_xact_lock(hashtext('carillon.claim'), hashtext(p_queue)); END IF;
    RETURN QUERY
    WITH locked AS MATERIALIZED (
        -- Index: tasks_pkey.
        SELECT t.id, t.key FROM tasks t
        WHERE NOT p_whole AND t.id = ANY (p_ids) AND t.queue = p_queue AND t.state IN (0, 4)
        FOR UPDATE SKIP LOCKED
    ), picked AS MATERIALIZED (
        SELECT l.id FROM (SELECT l.id, l.key, row_number() OVER (PARTITION BY l.key) AS place FROM locked l) l
        WHERE l.place <= p_per_key AND l.key <> ALL (p_busy)
        UNION ALL
        -- Index: tasks_pkey, tasks_user.
        SELECT p.id FROM (SELECT DISTINCT t.key FROM tasks t WHERE p_whole AND t.id = ANY (p_ids) AND t.queue = p_queue AND t.state IN (0, 4)) k CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t
            WHERE t.user_id = k.key AND t.queue = p_queue AND (t.state IN (0, 4) OR t.state = 1 AND t.run_at <= v_now + interval '2 seconds')
              AND NOT EXISTS (SELECT FROM tasks r WHERE r.user_id = k.key AND r.queue = p_queue AND r.state = 2)
            ORDER BY t.id LIMIT 1000 FOR UPDATE SKIP LOCKED) p
    ), taken AS (
        UPDATE tasks t SET state = 2, lease_owner = p_owner, run_at = clock_timestamp() + p_lease, attempts = t.attempts + 1
        FROM picked p WHERE t.id = p.id
        RETURNING t.id, t.key, t.priority, t.attempts, t.user_id, t.notification_id, t.endpoint, t.payload, t.created_at, t.trace
    ), sending AS (
        -- Index: deliveries_pkey.
        UPDATE deliveries d SET state = 'sending', attempts = c.attempts, at = v_now
        FROM taken c
        WHERE d.user_id = c.user_id AND d.notification_id = c.notification_id AND d.channel = task_channel(p_queue) AND d.endpoint = c.endpoint
    )
    SELECT t.*, NULL::integer FROM taken t
    UNION ALL
    SELECT t.id, t.key, t.priority, t.attempts, t.user_id, t.notification_id, t.endpoint, t.payload, t.created_at, t.trace,
           CASE t.state WHEN 2 THEN LEAST(43000, GREATEST(1, ceil(EXTRACT(EPOCH FROM t.run_at - v_now))))::integer ELSE 2 END
    FROM tasks t WHERE t.id = ANY (p_ids) AND t.queue = p_queue AND t.state IN (0, 2, 4) AND NOT EXISTS (SELECT FROM picked p WHERE p.id = t.id);
END $$;
