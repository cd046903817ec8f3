-- What administrators ask for: totals, and what retention and erasure need to find their rows.

-- Sums by day (UTC), customer, channel, type, event and state ('' stands for none). A worker adds to them from the change log, some seconds after the
-- fact: they are no part of any transaction that somebody waits for. Of the channel in_app they count what happened on a day; of the others how many of
-- the day's deliveries are in a state now.
CREATE TABLE totals (
    day           date   NOT NULL,
    customer_id   text COLLATE "C" NOT NULL,
    channel       text COLLATE "C" NOT NULL,
    type          text COLLATE "C" NOT NULL,
    event         text COLLATE "C" NOT NULL,
    state         text COLLATE "C" NOT NULL,
    count         bigint NOT NULL,
    timed         bigint NOT NULL,                    -- of how many the time since the creation is known
    seconds       double precision NOT NULL,          -- of these together
    within_minute bigint NOT NULL,
    within_hour   bigint NOT NULL,
    within_day    bigint NOT NULL,
    PRIMARY KEY (day, customer_id, channel, type, event, state)
);

-- Up to which change they are counted.
CREATE TABLE totals_progress (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    until    timestamptz NOT NULL
);
INSERT INTO totals_progress (until) VALUES (clock_timestamp());

-- Changes arrive in about the order of their time: each goes to the end of the index. (A block range index would cost a writer less, but ranges that are not
-- summed up yet are read at each look for the last changes, and Postgres sums up once a minute.)
CREATE INDEX changes_age ON changes (at);
CREATE INDEX marks_age ON marks USING brin (at);

-- Adds what was committed since the last call, a minute of it at most: "more" says that there is another one. Nothing, while another worker is at it.
--
-- A change may be committed later than its time says. It is counted up to the start of the oldest transaction that has written something and goes
-- on (the nodes share one role, else they could not see each other's): whoever has written nothing yet will take a later time.
CREATE FUNCTION count_totals(OUT counted bigint, OUT more boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_from timestamptz; v_until timestamptz := clock_timestamp(); v_oldest timestamptz;
BEGIN
    counted := 0;
    more := false;
    SELECT until INTO v_from FROM totals_progress FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT min(xact_start) INTO v_oldest FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid();
    v_until := LEAST(v_until, v_oldest);
    IF v_until > v_from + interval '1 minute' THEN
        v_until := v_from + interval '1 minute';
        more := true;
    END IF;
    IF v_until <= v_from THEN RETURN; END IF;

    WITH recent AS MATERIALIZED (
        -- Index: changes_age of each partition.
        SELECT user_id, seq, kind, notification_id, state, read_at, customer_id, type, up_to_seq, at, its_type, its_event
        FROM changes WHERE at >= v_from AND at < v_until + interval '10 minutes' AND kind IN (1, 2, 3, 4, 6, 7)
    ), span AS (
        SELECT * FROM recent WHERE at < v_until
    ), gone AS (
        -- Also what went soon after the span: nothing else knows what it was.
        SELECT user_id, notification_id, its_type, its_event FROM recent WHERE kind IN (3, 6, 7)
    ), facts AS (
        SELECT at, customer_id, COALESCE(its_type, '') AS type, COALESCE(its_event, '') AS event, 'created' AS state, NULL::double precision AS seconds
        FROM span WHERE kind = 1
        UNION ALL
        -- Each lookup has its LIMIT, so that it stays one by key. Index: notifications_pkey.
        SELECT s.at, s.customer_id, COALESCE(n.type, g.its_type, ''), COALESCE(n.event, g.its_event, ''), 'read',
               EXTRACT(EPOCH FROM s.at - n.shown_at)::double precision
        -- What a batch changes has one time: of one that was read and changed again in it, only the first is the read.
        FROM (SELECT *, lag(state & 1 = 1, 1, false) OVER (PARTITION BY user_id, notification_id, at ORDER BY seq) AS was_read
              FROM span WHERE kind = 2) s
        LEFT JOIN LATERAL (SELECT type, event, GREATEST(created_at, deliver_at) AS shown_at FROM notifications n
                           WHERE n.user_id = s.user_id AND n.id = s.notification_id LIMIT 1) n ON true
        LEFT JOIN gone g ON n.type IS NULL AND g.user_id = s.user_id AND g.notification_id = s.notification_id
        WHERE s.state & 1 = 1 AND s.read_at = s.at AND NOT s.was_read
        UNION ALL
        -- "All read" without a filter: what lies between this mark and the one before. Index: notifications_inbox, notifications_touched, marks_pkey.
        SELECT s.at, n.customer_id, n.type, COALESCE(n.event, ''), 'read', EXTRACT(EPOCH FROM s.at - GREATEST(n.created_at, n.deliver_at))::double precision
        FROM span s
        CROSS JOIN LATERAL (SELECT COALESCE(max(m.seq), 0) AS seq FROM marks m WHERE m.user_id = s.user_id AND m.seq < s.seq) before
        CROSS JOIN LATERAL (
            SELECT * FROM (SELECT customer_id, type, event, created_at, deliver_at FROM notifications
                           WHERE user_id = s.user_id AND seq > before.seq AND seq <= s.seq AND state_seq <= s.seq AND NOT read
                           ORDER BY seq DESC LIMIT 1000000) fresh
            UNION ALL
            SELECT * FROM (SELECT customer_id, type, event, created_at, deliver_at FROM notifications
                           WHERE user_id = s.user_id AND seq <= before.seq AND NOT read AND state_seq > seq
                             AND state_seq > before.seq AND state_seq <= s.seq
                           ORDER BY seq DESC LIMIT 1000000) touched
        ) n
        WHERE s.kind = 4 AND s.customer_id IS NULL AND s.type IS NULL AND s.up_to_seq IS NULL
        UNION ALL
        -- With one: the rows have the very time of the change. Index: notifications_inbox.
        SELECT s.at, n.customer_id, n.type, COALESCE(n.event, ''), 'read', EXTRACT(EPOCH FROM s.at - GREATEST(n.created_at, n.deliver_at))::double precision
        FROM span s
        CROSS JOIN LATERAL (SELECT customer_id, type, event, created_at, deliver_at FROM notifications n
                            WHERE n.user_id = s.user_id AND n.seq IS NOT NULL AND n.seq <= s.seq AND n.read AND n.read_at = s.at
                              AND n.state_seq < s.seq
                              AND (s.customer_id IS NULL OR COALESCE(n.customer_id, '') = s.customer_id)
                              AND (s.type IS NULL OR n.type = s.type)
                            ORDER BY n.seq DESC LIMIT 2000) n
        WHERE s.kind = 4 AND NOT (s.customer_id IS NULL AND s.type IS NULL AND s.up_to_seq IS NULL)
        UNION ALL
        SELECT at, customer_id, COALESCE(its_type, ''), COALESCE(its_event, ''),
               CASE kind WHEN 3 THEN 'deleted' WHEN 6 THEN 'expired' ELSE 'replaced' END, NULL
        FROM span WHERE kind IN (3, 6, 7)
    ), added AS (
        INSERT INTO totals AS t (day, customer_id, channel, type, event, state, count, timed, seconds, within_minute, within_hour, within_day)
        SELECT (at AT TIME ZONE 'UTC')::date, COALESCE(customer_id, ''), 'in_app', type, event, state, count(*), count(seconds),
               COALESCE(sum(GREATEST(seconds, 0)), 0), count(*) FILTER (WHERE seconds <= 60), count(*) FILTER (WHERE seconds <= 3600),
               count(*) FILTER (WHERE seconds <= 86400)
        FROM facts GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (day, customer_id, channel, type, event, state) DO UPDATE
        SET count = t.count + EXCLUDED.count, timed = t.timed + EXCLUDED.timed, seconds = t.seconds + EXCLUDED.seconds,
            within_minute = t.within_minute + EXCLUDED.within_minute, within_hour = t.within_hour + EXCLUDED.within_hour,
            within_day = t.within_day + EXCLUDED.within_day
        RETURNING 1
    )
    SELECT count(*) INTO counted FROM added;
    -- Where nothing happens, nothing is written every second.
    IF counted = 0 AND v_until < v_from + interval '5 seconds' THEN RETURN; END IF;
    UPDATE totals_progress SET until = v_until;
END $$;

-- The deliveries of today and the three days before, by the state that they have now: what is older is over, or nearly so. Index: deliveries_age.
CREATE FUNCTION count_deliveries() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_day date := (now() AT TIME ZONE 'UTC')::date - 3;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('carillon.count_deliveries')) THEN RETURN; END IF;
    WITH fresh AS MATERIALIZED (
        SELECT (created_at AT TIME ZONE 'UTC')::date AS day, COALESCE(customer_id, '') AS customer_id, channel, type, COALESCE(event, '') AS event, state,
               count(*) AS count
        FROM deliveries WHERE created_at >= v_day::timestamp AT TIME ZONE 'UTC' GROUP BY 1, 2, 3, 4, 5, 6
    ), gone AS (
        DELETE FROM totals t WHERE day >= v_day AND channel <> 'in_app'
            AND NOT EXISTS (SELECT FROM fresh f WHERE (f.day, f.customer_id, f.channel, f.type, f.event, f.state)
                                                    = (t.day, t.customer_id, t.channel, t.type, t.event, t.state))
    )
    INSERT INTO totals AS t (day, customer_id, channel, type, event, state, count, timed, seconds, within_minute, within_hour, within_day)
    SELECT day, customer_id, channel, type, event, state, count, 0, 0, 0, 0, 0 FROM fresh
    ON CONFLICT (day, customer_id, channel, type, event, state) DO UPDATE SET count = EXCLUDED.count WHERE t.count <> EXCLUDED.count;
END $$;
