-- The one writer. Every change of an inbox goes through this function, a batch a call, in autocommit.
--
-- Items come sorted by user (byte order), those of one user in their order. All heads are locked first, in that order, so that
-- two batches cannot wait for each other; each statement after that sees what the holder before committed.

-- One row a change, or a word about an item that made none, and at the end one row a user with its head (status 4).
CREATE TYPE change_result AS (
    item            integer,     -- index from 1 of the item; null for heads
    status          smallint,    -- 0 changed, 1 nothing to change, 2 not found, 3 stored without a number, 4 head, 5 its request was done before,
                                 -- 6 left out, since something is known of the user; 7 changed, with the user's head: the user has no other item
    user_id         text,
    epoch           bigint,
    seq             bigint,
    kind            smallint,
    notification_id uuid,
    state           smallint,
    read_at         timestamptz,
    unread          integer,
    unseen          integer,
    customer_id     text,
    customer_unread integer,
    customer_unseen integer,
    customer_counts text,
    type            text,
    up_to_seq       bigint,
    at              timestamptz,
    body            text,        -- of updated ones; the caller has that of new ones
    counts          text,        -- of heads, and with status 7
    updated         integer,     -- how many rows "all read" changed
    more            boolean      -- "all read" with a filter: there is another chunk
);

-- Adds to the counts of one customer and type, and to the customer's sum. Pairs that fall to zero are removed.
CREATE FUNCTION count_add(p_counts jsonb, p_customer text, p_type text, p_unread integer, p_unseen integer) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    k text := COALESCE(p_customer, '') || E'\x1f' || p_type;
    s text := COALESCE(p_customer, '') || E'\x1f';
    a integer := COALESCE((p_counts -> k ->> 0)::integer, 0) + p_unread;
    b integer := COALESCE((p_counts -> k ->> 1)::integer, 0) + p_unseen;
    c integer := COALESCE((p_counts -> s ->> 0)::integer, 0) + p_unread;
    d integer := COALESCE((p_counts -> s ->> 1)::integer, 0) + p_unseen;
BEGIN
    IF a > 0 OR b > 0 THEN
        RETURN p_counts || jsonb_build_object(k, jsonb_build_array(a, b), s, jsonb_build_array(c, d));
    ELSIF c > 0 OR d > 0 THEN
        RETURN (p_counts - k) || jsonb_build_object(s, jsonb_build_array(c, d));
    ELSE
        RETURN p_counts - ARRAY[k, s];
    END IF;
END $$;

-- The sums by customer: customer -> [unread, unseen].
CREATE FUNCTION customer_counts(p_counts jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT COALESCE(jsonb_object_agg(left(key, -1), value), '{}') FROM jsonb_each(p_counts) WHERE right(key, 1) = E'\x1f'
$$;

-- A body with the members of the correction in the place of its own of the same names; the others stay as they were written, byte by byte.
-- The escape of NUL, which Postgres refuses to read, is another one meanwhile, which no body is written with.
CREATE FUNCTION corrected_body(p_body text, p_correction text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN strpos(p_body || p_correction, '\u0000') > 0 THEN replace(merged, '\ue0Ff', '\u0000') ELSE merged END
    FROM (SELECT string_agg(to_json(b.key)::text || ':' || COALESCE(c.value, b.value)::text, ',' ORDER BY b.place) AS merged
          FROM json_each(('{' || replace(p_body, '\u0000', '\ue0Ff') || '}')::json) WITH ORDINALITY AS b(key, value, place)
          LEFT JOIN json_each(replace(p_correction, '\u0000', '\ue0Ff')::json) AS c ON c.key = b.key) m
$$;

-- Items of a request with an Idempotency-Key name its claim (from 1; else 0). Claims come sorted, so that two batches cannot wait for each
-- other; one that was made before, at most a day ago, has its request's items left out.
--
-- Ops: 1 create, 2 set flags, 3 delete, 4 all read, 5 all seen, 6 scheduled one comes due, 7 expire, 8 taken back, or end of retention,
-- 9 correct (the body is a JSON object of the members to change; level and priority where they are
-- among them; in_app says whether the expiry is), 10 nothing but its deliveries, 11 erase a portion of the inbox, 12 create,
-- unless something is known of the user: then the item is left out with its claim, and it is the request's only one.
--
-- Deliveries name the item that they belong to (from 1) and are written with it; those that are queued with a task, whose payload is a place in the bodies.
--
-- Items of one notify call have the call's number (from 1; else 0): it is one event for webhooks.
--
-- Items of a traced request have its traceparent, which goes with what waits for them.
--
-- Its plans are kept for as long as a session lives. Those made while the tables were small would read them as a whole, also once they are large.
CREATE FUNCTION apply_changes(
    p_batch uuid, p_again boolean, p_users text[], p_ops smallint[], p_ids uuid[], p_types text[], p_events text[],
    p_levels smallint[], p_priorities smallint[], p_customers text[], p_rec_types text[], p_rec_ids text[], p_collapse text[],
    p_bodies text[], p_body integer[], p_created timestamptz[], p_deliver timestamptz[], p_expires timestamptz[], p_in_app boolean[],
    p_read boolean[], p_seen boolean[], p_archived boolean[], p_scopes jsonb[],
    p_claims integer[], p_claim_owners uuid[], p_claim_routes text[], p_claim_keys text[], p_claim_digests bytea[], p_claim_answers text[],
    p_delivery_items integer[], p_delivery_channels text[], p_delivery_endpoints text[], p_delivery_states text[], p_delivery_reasons text[],
    p_delivery_not_before timestamptz[], p_delivery_queues text[], p_delivery_tasks uuid[], p_delivery_payloads integer[],
    p_calls integer[], p_traces text[] DEFAULT '{}'
) RETURNS SETOF change_result LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz;
    v_epoch   bigint;
    v_user    text;
    v_first   bigint;             -- the head's seq before this batch
    h         heads%ROWTYPE;
    n         notifications%ROWTYPE;
    o         notifications%ROWTYPE;
    r         change_result;
    e         change_result;      -- an empty one
    g         record;
    v_users   text[] := '{}';
    v_lasts   bigint[] := '{}';
    v_op      smallint;
    v_id      uuid;
    v_read    boolean;
    v_seen    boolean;
    v_arch    boolean;
    v_read_at timestamptz;
    v_body    text;
    a_read    boolean;
    a_seen    boolean;
    a_arch    boolean;
    v_bound   bigint;
    v_rows    integer;
    v_before  jsonb;
    v_written boolean := false;   -- something besides the heads and their changes
    v_key     text;
    v_done    boolean[] := '{}';  -- by claim: made before, or given up
    v_out     boolean[] := '{}';  -- by item: left out
    v_numbers bigint[] := '{}';   -- by item of a request with a claim
    v_usual   boolean[] := '{}';  -- by item: written with all others of its kind
    v_count   integer := 0;       -- of these
BEGIN
    -- Locks existing heads and makes missing ones, in byte order. The condition is never true: the row is locked all the same.
    INSERT INTO heads (user_id, epoch)
    SELECT u, 0 FROM (SELECT DISTINCT u COLLATE "C" AS u FROM unnest(p_users) AS t(u)) AS d ORDER BY u COLLATE "C"
    ON CONFLICT (user_id) DO UPDATE SET seq = heads.seq WHERE false;

    IF p_again AND EXISTS (SELECT FROM commits WHERE batch_id = p_batch) THEN
        RAISE unique_violation USING MESSAGE = 'this batch was committed', CONSTRAINT = 'commits_pkey';
    END IF;

    SELECT epoch INTO v_epoch FROM cluster;
    v_now := clock_timestamp();

    FOR j IN 1 .. cardinality(p_claim_keys) LOOP
        INSERT INTO idempotency AS c (owner, route, key, digest, answer, at)
        VALUES (p_claim_owners[j], p_claim_routes[j], p_claim_keys[j], p_claim_digests[j], p_claim_answers[j], v_now)
        ON CONFLICT (owner, route, key) DO UPDATE SET digest = EXCLUDED.digest, answer = EXCLUDED.answer, ids = '{}', seqs = '{}', at = EXCLUDED.at
        -- Those of a job's chunks live as long as the job.
        WHERE c.at < v_now - interval '24 hours' AND c.route <> 'job';
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_done[j] := v_rows = 0;
        v_written := v_written OR v_rows > 0;
    END LOOP;

    -- What nearly all are: one new notification of a user, to be shown now. One statement writes all of them, which costs a fraction of several for each.
    IF 1 = ANY (p_ops) OR 12 = ANY (p_ops) THEN
        FOR r IN
            WITH usual AS MATERIALIZED (
                SELECT i.*, GREATEST(h.epoch, v_epoch) AS epoch, h.seq + 1 AS seq, h.unread + 1 AS unread, h.unseen + 1 AS unseen,
                       COALESCE((h.counts -> k.whole ->> 0)::integer, 0) + 1 AS customer_unread, COALESCE((h.counts -> k.whole ->> 1)::integer, 0) + 1 AS customer_unseen,
                       -- As count_add makes it of one more.
                       h.counts || jsonb_build_object(
                           k.part, jsonb_build_array(COALESCE((h.counts -> k.part ->> 0)::integer, 0) + 1, COALESCE((h.counts -> k.part ->> 1)::integer, 0) + 1),
                           k.whole, jsonb_build_array(COALESCE((h.counts -> k.whole ->> 0)::integer, 0) + 1, COALESCE((h.counts -> k.whole ->> 1)::integer, 0) + 1)
                       ) AS counts
                FROM unnest(p_users, p_ops, p_ids, p_types, p_events, p_levels, p_priorities, p_customers, p_rec_types, p_rec_ids, p_collapse, p_body, p_created,
                            p_deliver, p_expires, p_in_app, p_claims)
                     WITH ORDINALITY AS i(user_id, op, id, type, event, level, priority, customer_id, rec_type, rec_id, collapse_key, body, created_at,
                                          deliver_at, expires_at, in_app, claim, item)
                CROSS JOIN LATERAL (SELECT * FROM heads AS t WHERE t.user_id = i.user_id LIMIT 1) AS h
                CROSS JOIN LATERAL (
                    SELECT COALESCE(i.customer_id, '') || E'\x1f' AS whole, COALESCE(i.customer_id, '') || E'\x1f' || i.type AS part
                ) AS k
                WHERE (i.op = 1 OR i.op = 12 AND NOT h.is_known) AND i.in_app AND i.deliver_at IS NULL AND i.collapse_key IS NULL
                  AND v_done[i.claim] IS NOT TRUE
                  -- Sorted by user, so that others of the user would be its neighbours.
                  AND i.user_id IS DISTINCT FROM p_users[i.item - 1] AND i.user_id IS DISTINCT FROM p_users[i.item + 1]
            ), made AS (
                INSERT INTO notifications (user_id, id, seq, state_seq, level, priority, type, event, customer_id, rec_type, rec_id, created_at, expires_at, body)
                SELECT user_id, id, seq, seq, level, priority, type, event, customer_id, rec_type, rec_id, created_at, expires_at, p_bodies[body] FROM usual
            ), told AS (
                INSERT INTO changes (user_id, seq, kind, notification_id, unread, unseen, customer_id, customer_unread, customer_unseen, at, its_type, its_event)
                SELECT user_id, seq, 1, id, unread, unseen, customer_id, customer_unread, customer_unseen, v_now, type, event FROM usual
            ), counted AS (
                UPDATE heads AS t SET epoch = u.epoch, seq = u.seq, unread = u.unread, unseen = u.unseen, counts = u.counts FROM usual AS u WHERE t.user_id = u.user_id
            )
            SELECT item, 7, user_id, epoch, seq, 1, id, 0, NULL, unread, unseen, customer_id, customer_unread, customer_unseen, NULL, NULL, NULL, v_now, NULL,
                   counts::text, NULL, NULL
            FROM usual
        LOOP
            v_usual[r.item] := true;
            v_count := v_count + 1;
            v_users := v_users || r.user_id;
            v_lasts := v_lasts || r.seq;
            IF p_claims[r.item] > 0 THEN v_numbers[r.item] := r.seq; END IF;
            RETURN NEXT r;
        END LOOP;
    END IF;

    -- One turn more than there are items: the last user's head is written in it.
    FOR i IN 1 .. cardinality(p_users) + 1 LOOP
        EXIT WHEN v_count = cardinality(p_users);
        CONTINUE WHEN v_usual[i];
        IF v_user IS DISTINCT FROM p_users[i] THEN
            IF v_user IS NOT NULL THEN
                IF h.seq > v_first THEN
                    UPDATE heads SET epoch = h.epoch, seq = h.seq, unread = h.unread, unseen = h.unseen, counts = h.counts,
                                     mark_seq = h.mark_seq, seen_seq = h.seen_seq
                    WHERE user_id = v_user;
                    v_users := v_users || v_user;
                    v_lasts := v_lasts || h.seq;
                END IF;
                r := e;
                r.status := 4;
                r.user_id := v_user; r.epoch := h.epoch; r.seq := h.seq; r.unread := h.unread; r.unseen := h.unseen; r.at := v_now;
                r.counts := h.counts::text;
                RETURN NEXT r;
            END IF;
            EXIT WHEN i > cardinality(p_users);
            v_user := p_users[i];
            SELECT * INTO h FROM heads WHERE user_id = v_user;
            h.epoch := GREATEST(h.epoch, v_epoch);
            v_first := h.seq;
        END IF;
        v_op := p_ops[i];
        v_id := p_ids[i];
        r := e;
        r.item := i;
        r.user_id := v_user;
        r.epoch := h.epoch;
        r.at := v_now;
        r.notification_id := v_id;
        r.status := 0;

        IF v_done[p_claims[i]] THEN
            r.status := 5;
            RETURN NEXT r;
            CONTINUE;
        END IF;

        IF v_op = 12 THEN
            IF h.is_known THEN
                IF p_claims[i] > 0 THEN
                    DELETE FROM idempotency
                    WHERE owner = p_claim_owners[p_claims[i]] AND route = p_claim_routes[p_claims[i]] AND key = p_claim_keys[p_claims[i]];
                    v_done[p_claims[i]] := true;
                END IF;
                v_out[i] := true;
                r.status := 6;
                RETURN NEXT r;
                CONTINUE;
            END IF;
            v_op := 1;
        END IF;

        IF v_op = 1 OR v_op = 6 THEN
            IF v_op = 1 THEN
                n.user_id := v_user; n.id := v_id; n.seq := NULL; n.state_seq := NULL; n.read := false; n.seen := false; n.archived := false;
                n.revived := false;
                n.read_at := NULL; n.level := p_levels[i]; n.priority := p_priorities[i]; n.type := p_types[i]; n.event := p_events[i];
                n.customer_id := p_customers[i]; n.rec_type := p_rec_types[i]; n.rec_id := p_rec_ids[i]; n.collapse_key := p_collapse[i];
                n.created_at := p_created[i]; n.deliver_at := p_deliver[i]; n.expires_at := p_expires[i]; n.body := p_bodies[p_body[i]];
                IF NOT p_in_app[i] OR n.deliver_at > v_now THEN
                    IF NOT p_in_app[i] THEN n.deliver_at := NULL; END IF;
                    INSERT INTO notifications VALUES (n.*);
                    v_written := true;
                    r.status := 3;
                    r.seq := NULL;
                    RETURN NEXT r;
                    CONTINUE;
                END IF;
            ELSE
                SELECT * INTO n FROM notifications WHERE user_id = v_user AND id = v_id AND seq IS NULL AND deliver_at <= v_now
                    AND (expires_at IS NULL OR expires_at > v_now);
                IF NOT FOUND THEN
                    r.status := 2;
                    RETURN NEXT r;
                    CONTINUE;
                END IF;
            END IF;

            IF n.collapse_key IS NOT NULL THEN
                FOR o IN SELECT * FROM notifications
                         WHERE user_id = v_user AND collapse_key = n.collapse_key AND NOT read AND seq IS NOT NULL
                           AND state_seq > h.mark_seq AND id <> v_id
                         ORDER BY seq LOOP
                    v_seen := o.seen OR o.state_seq <= h.seen_seq;
                    DELETE FROM notifications WHERE user_id = v_user AND id = o.id;
                    h.seq := h.seq + 1;
                    h.unread := h.unread - 1;
                    h.unseen := h.unseen - CASE WHEN v_seen THEN 0 ELSE 1 END;
                    h.counts := count_add(h.counts, o.customer_id, o.type, -1, CASE WHEN v_seen THEN 0 ELSE -1 END);
                    v_key := COALESCE(o.customer_id, '') || E'\x1f';
                    r.seq := h.seq; r.kind := 7; r.notification_id := o.id; r.state := 0; r.unread := h.unread; r.unseen := h.unseen;
                    r.customer_id := o.customer_id;
                    r.customer_unread := COALESCE((h.counts -> v_key ->> 0)::integer, 0);
                    r.customer_unseen := COALESCE((h.counts -> v_key ->> 1)::integer, 0);
                    INSERT INTO changes (user_id, seq, kind, notification_id, unread, unseen, customer_id, customer_unread, customer_unseen, at,
                                         its_type, its_event)
                    VALUES (v_user, r.seq, 7, o.id, r.unread, r.unseen, r.customer_id, r.customer_unread, r.customer_unseen, v_now, o.type, o.event);
                    RETURN NEXT r;
                END LOOP;
            END IF;

            h.seq := h.seq + 1;
            h.unread := h.unread + 1;
            h.unseen := h.unseen + 1;
            h.counts := count_add(h.counts, n.customer_id, n.type, 1, 1);
            n.seq := h.seq;
            n.state_seq := h.seq;
            IF v_op = 1 THEN
                INSERT INTO notifications VALUES (n.*);
            ELSE
                UPDATE notifications SET seq = n.seq, state_seq = n.seq WHERE user_id = v_user AND id = v_id;
                r.body := n.body;
            END IF;
            v_key := COALESCE(n.customer_id, '') || E'\x1f';
            r.seq := h.seq; r.kind := 1; r.notification_id := v_id; r.state := 0; r.unread := h.unread; r.unseen := h.unseen;
            r.customer_id := n.customer_id;
            r.customer_unread := (h.counts -> v_key ->> 0)::integer;
            r.customer_unseen := (h.counts -> v_key ->> 1)::integer;
            INSERT INTO changes (user_id, seq, kind, notification_id, unread, unseen, customer_id, customer_unread, customer_unseen, at, its_type, its_event)
            VALUES (v_user, r.seq, 1, v_id, r.unread, r.unseen, r.customer_id, r.customer_unread, r.customer_unseen, v_now, n.type, n.event);
            IF p_claims[i] > 0 THEN v_numbers[i] := r.seq; END IF;
            RETURN NEXT r;

        ELSIF v_op IN (2, 3, 7, 8, 9) THEN
            SELECT * INTO n FROM notifications WHERE user_id = v_user AND id = v_id;
            IF NOT FOUND OR (v_op IN (2, 3) AND (n.seq IS NULL OR (p_scopes[i] IS NOT NULL AND n.customer_id IS NOT NULL
                                                                   AND NOT p_scopes[i] ? n.customer_id)))
               OR (v_op = 7 AND (n.expires_at IS NULL OR n.expires_at > v_now)) THEN
                r.status := 2;
                RETURN NEXT r;
                CONTINUE;
            END IF;
            v_body := n.body;
            IF v_op = 9 THEN
                v_body := corrected_body(n.body, p_bodies[p_body[i]]);
                IF v_body = n.body THEN
                    r.status := 1;
                    RETURN NEXT r;
                    CONTINUE;
                END IF;
                n.body := v_body;
                n.level := COALESCE(p_levels[i], n.level);
                n.priority := COALESCE(p_priorities[i], n.priority);
                IF p_in_app[i] THEN n.expires_at := p_expires[i]; END IF;
                UPDATE notifications SET body = n.body, level = n.level, priority = n.priority, expires_at = n.expires_at
                WHERE user_id = v_user AND id = v_id AND n.seq IS NULL;
                IF n.seq IS NULL THEN
                    v_written := true;
                    r.status := 3;
                    RETURN NEXT r;
                    CONTINUE;
                END IF;
            ELSIF n.seq IS NULL THEN
                -- It was in no list and no count: it goes without a number.
                DELETE FROM notifications WHERE user_id = v_user AND id = v_id;
                v_written := true;
                r.status := 1;
                RETURN NEXT r;
                CONTINUE;
            END IF;
            v_read := n.read OR n.state_seq <= h.mark_seq;
            v_seen := n.seen OR v_read OR n.state_seq <= h.seen_seq;
            v_arch := n.archived;
            v_read_at := CASE WHEN n.read THEN n.read_at
                              WHEN v_read THEN (SELECT at FROM marks WHERE user_id = v_user AND seq >= n.state_seq ORDER BY seq LIMIT 1) END;
            r.customer_id := n.customer_id;
            IF v_op IN (2, 9) THEN
                a_arch := COALESCE(p_archived[i], v_arch);
                a_read := COALESCE(p_read[i], v_read) OR a_arch;
                a_seen := COALESCE(p_seen[i], v_seen) OR a_read;
                r.body := v_body;
                IF v_op = 2 AND a_arch = v_arch AND a_read = v_read AND a_seen = v_seen THEN
                    r.status := 1;
                    r.seq := n.state_seq;
                    r.read_at := v_read_at;
                    r.state := v_read::integer + 2 * v_seen::integer + 4 * v_arch::integer;
                    r.unread := h.unread;
                    r.unseen := h.unseen;
                    RETURN NEXT r;
                    CONTINUE;
                END IF;
                v_read_at := CASE WHEN NOT a_read THEN NULL WHEN v_read THEN v_read_at ELSE v_now END;
                r.kind := 2;
            ELSE
                a_arch := false;
                a_read := true;
                a_seen := true;
                r.kind := CASE v_op WHEN 7 THEN 6 ELSE 3 END;
            END IF;
            h.seq := h.seq + 1;
            IF a_read <> v_read OR a_seen <> v_seen THEN
                h.unread := h.unread + v_read::integer - a_read::integer;
                h.unseen := h.unseen + v_seen::integer - a_seen::integer;
                h.counts := count_add(h.counts, n.customer_id, n.type, v_read::integer - a_read::integer, v_seen::integer - a_seen::integer);
            END IF;
            IF v_op IN (2, 9) THEN
                IF v_op = 2 THEN
                    UPDATE notifications SET state_seq = h.seq, read = a_read, seen = a_seen, archived = a_arch, read_at = v_read_at,
                                             revived = n.seq <= h.mark_seq
                    WHERE user_id = v_user AND id = v_id;
                ELSE
                    UPDATE notifications SET state_seq = h.seq, read = a_read, seen = a_seen, archived = a_arch, read_at = v_read_at,
                                             revived = n.seq <= h.mark_seq,
                                             body = n.body, level = n.level, priority = n.priority, expires_at = n.expires_at
                    WHERE user_id = v_user AND id = v_id;
                END IF;
                r.state := a_read::integer + 2 * a_seen::integer + 4 * a_arch::integer;
                r.read_at := v_read_at;
            ELSE
                DELETE FROM notifications WHERE user_id = v_user AND id = v_id;
                r.state := 0;
            END IF;
            v_key := COALESCE(n.customer_id, '') || E'\x1f';
            r.seq := h.seq; r.unread := h.unread; r.unseen := h.unseen;
            r.customer_unread := COALESCE((h.counts -> v_key ->> 0)::integer, 0);
            r.customer_unseen := COALESCE((h.counts -> v_key ->> 1)::integer, 0);
            INSERT INTO changes (user_id, seq, kind, notification_id, state, read_at, unread, unseen, customer_id, customer_unread, customer_unseen, at,
                                 its_type, its_event)
            VALUES (v_user, r.seq, r.kind, v_id, r.state, r.read_at, r.unread, r.unseen, r.customer_id, r.customer_unread, r.customer_unseen, v_now,
                    CASE WHEN r.kind <> 2 THEN n.type END, CASE WHEN r.kind <> 2 THEN n.event END);
            RETURN NEXT r;

        ELSIF v_op = 4 OR v_op = 5 THEN
            r.kind := v_op;
            v_before := customer_counts(h.counts);
            r.state := 0;
            r.updated := 0;
            r.more := false;
            v_bound := NULL;
            IF v_op = 4 AND v_id IS NOT NULL THEN
                SELECT state_seq INTO v_bound FROM notifications
                WHERE user_id = v_user AND id = v_id AND seq IS NOT NULL
                  AND (p_scopes[i] IS NULL OR customer_id IS NULL OR p_scopes[i] ? customer_id);
                IF NOT FOUND THEN
                    r.status := 2;
                    RETURN NEXT r;
                    CONTINUE;
                END IF;
            END IF;
            IF p_customers[i] IS NULL AND p_types[i] IS NULL AND v_bound IS NULL THEN
                -- Without a filter it is a mark: its cost does not grow with the inbox.
                IF (v_op = 4 AND h.unread = 0 AND h.unseen = 0) OR (v_op = 5 AND h.unseen = 0) THEN
                    r.status := 1;
                ELSE
                    h.seq := h.seq + 1;
                    h.seen_seq := h.seq;
                    h.unseen := 0;
                    IF v_op = 4 THEN
                        r.updated := h.unread;
                        h.mark_seq := h.seq;
                        h.unread := 0;
                        h.counts := '{}';
                        INSERT INTO marks VALUES (v_user, h.seq, v_now);
                    ELSE
                        SELECT COALESCE(jsonb_object_agg(key, jsonb_build_array(value -> 0, 0)), '{}') INTO h.counts
                        FROM jsonb_each(h.counts) WHERE (value ->> 0)::integer > 0;
                    END IF;
                END IF;
            ELSE
                -- With a filter: in chunks by state_seq, each exactly "all read up to" its last row. A customer of '' is none.
                v_rows := 0;
                v_key := NULL;
                FOR g IN
                    WITH picked AS MATERIALIZED (
                        (SELECT id, customer_id, type, state_seq, seen OR state_seq <= h.seen_seq AS was_seen FROM notifications
                        WHERE user_id = v_user AND NOT archived AND NOT read AND seq > h.mark_seq AND state_seq = seq
                          AND (p_types[i] IS NULL OR type = p_types[i])
                          AND (p_customers[i] IS NULL OR COALESCE(customer_id, '') = p_customers[i])
                          AND (v_bound IS NULL OR state_seq <= v_bound)
                          AND (v_op = 4 OR NOT (seen OR state_seq <= h.seen_seq))
                        ORDER BY seq LIMIT 2000)
                        UNION ALL
                        (SELECT id, customer_id, type, state_seq, seen OR state_seq <= h.seen_seq FROM notifications
                        WHERE user_id = v_user AND NOT read AND state_seq > seq AND state_seq > h.mark_seq
                          AND (p_types[i] IS NULL OR type = p_types[i])
                          AND (p_customers[i] IS NULL OR COALESCE(customer_id, '') = p_customers[i])
                          AND (v_bound IS NULL OR state_seq <= v_bound)
                          AND (v_op = 4 OR NOT (seen OR state_seq <= h.seen_seq))
                        ORDER BY state_seq LIMIT 2000)
                        ORDER BY state_seq LIMIT 2000
                    ), touched AS (
                        -- By an array: a join of a user's rows, of which the planner expects one, would compare each with each.
                        UPDATE notifications SET read = (v_op = 4), seen = true, read_at = CASE WHEN v_op = 4 THEN v_now END
                        WHERE user_id = v_user AND id = ANY (ARRAY(SELECT id FROM picked))
                    )
                    SELECT customer_id, type, count(*)::integer AS rows, (count(*) FILTER (WHERE NOT was_seen))::integer AS unseen,
                           max(state_seq) AS last
                    FROM picked GROUP BY customer_id, type
                LOOP
                    v_rows := v_rows + g.rows;
                    h.unseen := h.unseen - g.unseen;
                    IF v_op = 4 THEN h.unread := h.unread - g.rows; END IF;
                    h.counts := count_add(h.counts, g.customer_id, g.type, CASE WHEN v_op = 4 THEN -g.rows ELSE 0 END, -g.unseen);
                    r.up_to_seq := GREATEST(r.up_to_seq, g.last);
                END LOOP;
                IF v_rows = 0 THEN
                    r.status := 1;
                    r.up_to_seq := NULL;
                ELSE
                    h.seq := h.seq + 1;
                    r.updated := v_rows;
                    r.more := v_rows = 2000;
                    IF v_op = 5 OR NOT r.more THEN r.up_to_seq := v_bound; END IF;
                END IF;
                r.type := p_types[i];
                r.customer_id := p_customers[i];
            END IF;
            r.unread := h.unread;
            r.unseen := h.unseen;
            r.seq := h.seq;
            r.notification_id := NULL;
            IF r.status = 0 THEN
                r.customer_counts := customer_counts(h.counts)::text;
                INSERT INTO changes (user_id, seq, kind, unread, unseen, customer_id, customer_counts, customer_counts_before, type, up_to_seq, at)
                VALUES (v_user, r.seq, r.kind, r.unread, r.unseen, r.customer_id, r.customer_counts::jsonb, v_before, r.type, r.up_to_seq, v_now);
            END IF;
            RETURN NEXT r;
        ELSIF v_op = 10 THEN
            r.status := 1;
            RETURN NEXT r;

        ELSIF v_op = 11 THEN
            -- One portion of an inbox that is erased, so that nobody waits long. Each portion begins an epoch: a replay from before it would have to
            -- name what is gone. The numbers go on, so that the commit tail finds it, and what is left of the log lies where no position leads.
            v_before := customer_counts(h.counts);
            v_rows := 0;
            FOR g IN
                WITH gone AS (
                    DELETE FROM notifications
                    WHERE user_id = v_user AND id = ANY (ARRAY(SELECT id FROM notifications WHERE user_id = v_user ORDER BY id LIMIT 1000))
                    RETURNING customer_id, type, seq IS NOT NULL AND NOT read AND state_seq > h.mark_seq AS was_unread,
                              seq IS NOT NULL AND NOT read AND NOT seen AND state_seq > GREATEST(h.mark_seq, h.seen_seq) AS was_unseen
                )
                SELECT customer_id, type, count(*)::integer AS rows, (count(*) FILTER (WHERE was_unread))::integer AS unread,
                       (count(*) FILTER (WHERE was_unseen))::integer AS unseen
                FROM gone GROUP BY customer_id, type
            LOOP
                v_rows := v_rows + g.rows;
                h.unread := h.unread - g.unread;
                h.unseen := h.unseen - g.unseen;
                IF g.unread > 0 OR g.unseen > 0 THEN h.counts := count_add(h.counts, g.customer_id, g.type, -g.unread, -g.unseen); END IF;
            END LOOP;
            r.updated := v_rows;
            r.more := v_rows = 1000;
            IF v_rows = 0 AND h.mark_seq = h.seq AND h.seen_seq = h.seq THEN
                -- Erased before, or never written to: any other way to an empty inbox ends with a number above the marks.
                r.status := 1;
                RETURN NEXT r;
                CONTINUE;
            END IF;
            UPDATE cluster SET epoch_counter = GREATEST(epoch_counter, h.epoch) + 1 RETURNING epoch_counter INTO h.epoch;
            h.seq := h.seq + 1;
            IF NOT r.more THEN
                h.mark_seq := h.seq;
                h.seen_seq := h.seq;
            END IF;
            r.epoch := h.epoch; r.seq := h.seq; r.kind := 8; r.notification_id := NULL; r.state := 0; r.unread := h.unread; r.unseen := h.unseen;
            r.customer_counts := customer_counts(h.counts)::text;
            -- It knows the counts for those who resume from here.
            INSERT INTO changes (user_id, seq, kind, unread, unseen, customer_counts, customer_counts_before, at)
            VALUES (v_user, r.seq, 8, r.unread, r.unseen, r.customer_counts::jsonb, v_before, v_now);
            RETURN NEXT r;
        ELSE
            RAISE invalid_parameter_value USING MESSAGE = 'unknown op ' || v_op;
        END IF;
    END LOOP;

    FOR j IN 1 .. cardinality(p_claim_keys) LOOP
        CONTINUE WHEN v_done[j];
        UPDATE idempotency SET (ids, seqs) = (
            SELECT COALESCE(array_agg(p_ids[k] ORDER BY k), '{}'), COALESCE(array_agg(v_numbers[k] ORDER BY k), '{}')
            FROM generate_subscripts(p_claims, 1) AS k WHERE p_claims[k] = j)
        WHERE owner = p_claim_owners[j] AND route = p_claim_routes[j] AND key = p_claim_keys[j];
    END LOOP;

    IF p_delivery_items <> '{}' THEN
        INSERT INTO deliveries (user_id, notification_id, channel, endpoint, state, reason, type, event, customer_id, not_before, created_at, at)
        SELECT p_users[d.item], p_ids[d.item], d.channel, d.endpoint, d.state, d.reason, p_types[d.item], p_events[d.item], p_customers[d.item],
               d.not_before, v_now, v_now
        FROM unnest(p_delivery_items, p_delivery_channels, p_delivery_endpoints, p_delivery_states, p_delivery_reasons, p_delivery_not_before)
             AS d(item, channel, endpoint, state, reason, not_before)
        WHERE v_done[p_claims[d.item]] IS NOT TRUE AND v_out[d.item] IS NOT TRUE
        ON CONFLICT DO NOTHING;
        v_written := true;
        IF 'queued' = ANY (p_delivery_states) THEN
            INSERT INTO tasks (id, queue, key, priority, state, run_at, user_id, notification_id, endpoint, payload, created_at, trace)
            SELECT d.task, d.queue, CASE d.queue WHEN 'digest' THEN p_users[d.item] ELSE COALESCE(p_customers[d.item], '') END, p_priorities[d.item], CASE WHEN d.not_before > v_now THEN 1 ELSE 0 END,
                   GREATEST(d.not_before, v_now), p_users[d.item], p_ids[d.item], d.endpoint, p_bodies[d.payload], v_now, p_traces[d.item]
            FROM unnest(p_delivery_items, p_delivery_endpoints, p_delivery_states, p_delivery_not_before, p_delivery_queues, p_delivery_tasks,
                        p_delivery_payloads) AS d(item, endpoint, state, not_before, queue, task, payload)
            WHERE d.state = 'queued' AND v_done[p_claims[d.item]] IS NOT TRUE AND v_out[d.item] IS NOT TRUE;
        END IF;
    END IF;

    -- Where nobody has a webhook, that costs no more than the question.
    IF p_calls <> '{}' AND EXISTS (SELECT FROM webhooks) THEN
        FOR g IN
            SELECT min(k) AS item, min(k) FILTER (WHERE p_body[k] IS NOT NULL) AS worded, array_agg(p_users[k] ORDER BY k) AS users
            FROM generate_subscripts(p_calls, 1) AS k
            WHERE p_calls[k] > 0 AND v_done[p_claims[k]] IS NOT TRUE AND v_out[k] IS NOT TRUE GROUP BY p_calls[k]
        LOOP
            CONTINUE WHEN g.worded IS NULL;
            IF add_webhook_event(
                p_ids[g.item], p_types[g.worded], p_events[g.worded], p_customers[g.worded], v_now, p_deliver[g.worded], COALESCE(p_priorities[g.worded], 1::smallint),
                '{' || p_bodies[p_body[g.worded]] || ',"user_ids":' || to_json(g.users)::text || '}', p_traces[g.item]) > 0
            THEN
                v_written := true;
            END IF;
        END LOOP;
    END IF;

    -- Also without a user: a batch in doubt is known by it.
    IF v_users <> '{}' OR v_written THEN
        INSERT INTO commits (batch_id, users, last_seqs) VALUES (p_batch, v_users, v_lasts);
    END IF;
END $$;
