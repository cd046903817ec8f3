-- Webhooks: where the application's other systems are told of events; what was told to whom, and what they answered.

CREATE TABLE webhooks (
    id            uuid PRIMARY KEY,
    url           text NOT NULL,
    events        text[] NOT NULL,                    -- types, events, "type.event", or *
    customer_id   text COLLATE "C",                   -- it sees that one's events only; null: all
    description   text,
    status        text NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'FAILED', 'DISABLED')),
    failure_count integer NOT NULL DEFAULT 0,         -- failed attempts since the last that succeeded
    last_error    text,
    secret        bytea NOT NULL,                     -- sealed with a key that the database does not have
    old_secret    bytea,                              -- the one before the last rotation, good until then
    old_until     timestamptz,
    created_at    timestamptz NOT NULL
);
CREATE INDEX webhooks_customer ON webhooks (customer_id, id);
CREATE INDEX webhooks_idle ON webhooks (id) WHERE status <> 'ACTIVE';

-- What happened: one notify call is one event.
CREATE TABLE webhook_events (
    id          uuid PRIMARY KEY,
    type        text NOT NULL,
    event       text,
    customer_id text COLLATE "C",
    at          timestamptz NOT NULL,                 -- when it happened, or is due
    data        text NOT NULL                         -- JSON
);
CREATE INDEX webhook_events_age ON webhook_events USING brin (at);

-- One for each event and endpoint. Its task has the same id.
CREATE TABLE webhook_deliveries (
    id         uuid PRIMARY KEY,
    webhook_id uuid NOT NULL,
    event_id   uuid NOT NULL,
    state      text NOT NULL CHECK (state IN ('queued', 'delivered', 'failed')),
    attempts   integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    at         timestamptz NOT NULL                   -- of its state
) WITH (fillfactor = 80);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (webhook_id, id) WHERE state = 'failed';
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (webhook_id, event_id, id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries USING brin (created_at);

CREATE TABLE webhook_attempts (
    webhook_id  uuid NOT NULL,
    id          uuid NOT NULL,                        -- version 7: the order of attempts
    delivery_id uuid NOT NULL,
    type        text NOT NULL,
    number      integer NOT NULL,                     -- of its delivery, from 1; 0: a test
    at          timestamptz NOT NULL,
    status      integer,                              -- HTTP's; null: there was no answer
    duration_ms integer NOT NULL,
    error       text,
    answer      text NOT NULL,                        -- its first bytes
    PRIMARY KEY (webhook_id, id)
);
CREATE INDEX webhook_attempts_age ON webhook_attempts USING brin (at);

-- What was set aside, for each webhook.
CREATE INDEX tasks_held ON tasks (key) WHERE queue = 'webhook.held';

-- The name under which an event is sent.
CREATE FUNCTION webhook_event_name(p_type text, p_event text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_type || COALESCE('.' || p_event, '')
$$;

-- UUID version 7 (RFC 9562): the time in milliseconds, then chance.
CREATE FUNCTION make_uuid7(p_at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_byte(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send((extract(epoch FROM p_at) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
                           6, (get_byte(r.bytes, 0) & 15) | 112), 'hex')::uuid
    FROM (SELECT uuid_send(gen_random_uuid()) AS bytes) r
$$;

-- The first of the ids that are made so at that time.
CREATE FUNCTION first_uuid7(p_at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(GREATEST(0, floor(extract(epoch FROM p_at) * 1000))::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Queues an event for one endpoint. What is for one that failed or is disabled waits in a queue that nobody works off.
CREATE FUNCTION queue_webhook(
    p_webhook uuid, p_status text, p_event uuid, p_priority smallint, p_run_at timestamptz, p_now timestamptz, p_trace text
) RETURNS void LANGUAGE sql AS $$
    WITH delivery AS (
        INSERT INTO webhook_deliveries (id, webhook_id, event_id, state, created_at, at)
        VALUES (make_uuid7(p_now), p_webhook, p_event, 'queued', p_now, p_now) RETURNING id
    )
    INSERT INTO tasks (id, queue, key, priority, state, run_at, payload, created_at, trace)
    SELECT id, CASE p_status WHEN 'ACTIVE' THEN 'webhook' ELSE 'webhook.held' END, p_webhook::text, p_priority,
           CASE WHEN p_run_at > p_now THEN 1 ELSE 0 END, GREATEST(p_run_at, p_now), p_event::text, p_now, p_trace
    FROM delivery
$$;

-- An event goes to every endpoint that asked for such; answers to how many. The same event again changes nothing. Without an endpoint it is not kept.
CREATE FUNCTION add_webhook_event(
    p_id uuid, p_type text, p_event text, p_customer text, p_at timestamptz, p_run_at timestamptz, p_priority smallint, p_data text,
    p_trace text DEFAULT NULL
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_now  timestamptz := clock_timestamp();
    v_rows integer := 0;
    w      record;
BEGIN
    -- Index: webhooks_customer, its two ranges.
    FOR w IN
        SELECT id, status FROM webhooks
        WHERE (customer_id IS NULL OR customer_id = p_customer) AND status <> 'DISABLED'
          AND events && ARRAY['*', p_type, p_event, p_type || '.' || p_event]
        ORDER BY id
    LOOP
        IF v_rows = 0 THEN
            INSERT INTO webhook_events (id, type, event, customer_id, at, data)
            VALUES (p_id, p_type, p_event, p_customer, GREATEST(p_at, p_run_at), p_data) ON CONFLICT DO NOTHING;
            IF NOT FOUND THEN RETURN 0; END IF;
        END IF;
        PERFORM queue_webhook(w.id, w.status, p_id, p_priority, p_run_at, v_now, p_trace);
        v_rows := v_rows + 1;
    END LOOP;
    RETURN v_rows;
END $$;

-- What is queued follows the status of its webhook a little later, so that no change of a status waits for however much there is: what is ready for one that is
-- not active is set aside; what was set aside for one that is active again goes on, from the first attempt on; what is for one that is gone, ends. What waits for
-- its time stays until it is ready. It begins with any webhook and goes round; at most p_limit move, and of one webhook's a fifth of that. Answers how many moved,
-- and how many of them are ready to go.
CREATE FUNCTION move_webhook_tasks(p_limit integer, OUT moved integer, OUT resumed integer) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now    timestamptz := clock_timestamp();
    v_start  text := gen_random_uuid()::text;
    v_key    text := v_start;
    v_round  boolean := false;
    v_status text;
    v_share  integer := GREATEST(1, p_limit / 5);
    v_rows   integer;
    v_idle   record;
BEGIN
    moved := 0;
    resumed := 0;
    LOOP
        -- Index: tasks_held, one probe a webhook; webhooks_pkey.
        SELECT t.key INTO v_key FROM tasks t WHERE t.queue = 'webhook.held' AND t.key > v_key ORDER BY t.key LIMIT 1;
        IF v_key IS NULL AND NOT v_round THEN
            v_round := true;
            SELECT t.key INTO v_key FROM tasks t WHERE t.queue = 'webhook.held' ORDER BY t.key LIMIT 1;
        END IF;
        EXIT WHEN v_key IS NULL OR (v_round AND v_key > v_start) OR moved >= p_limit;
        SELECT w.status INTO v_status FROM webhooks w WHERE w.id = v_key::uuid;
        IF v_status IS NULL THEN
            WITH gone AS (
                DELETE FROM tasks WHERE id IN (
                    SELECT t.id FROM tasks t WHERE t.queue = 'webhook.held' AND t.key = v_key LIMIT LEAST(v_share, p_limit - moved) FOR UPDATE SKIP LOCKED)
                RETURNING id
            ), told AS (
                -- Index: webhook_deliveries_pkey.
                UPDATE webhook_deliveries d SET state = 'failed', at = v_now FROM gone WHERE d.id = gone.id AND d.state = 'queued'
            )
            SELECT count(*)::integer INTO v_rows FROM gone;
            moved := moved + v_rows;
        ELSIF v_status = 'ACTIVE' THEN
            WITH resumed_tasks AS (
                UPDATE tasks SET queue = 'webhook', attempts = 0, losses = 0, run_at = CASE state WHEN 0 THEN v_now ELSE run_at END WHERE id IN (
                    SELECT t.id FROM tasks t WHERE t.queue = 'webhook.held' AND t.key = v_key LIMIT LEAST(v_share, p_limit - moved) FOR UPDATE SKIP LOCKED)
                RETURNING id
            ), told AS (
                -- Index: webhook_deliveries_pkey.
                UPDATE webhook_deliveries d SET state = 'queued', at = v_now FROM resumed_tasks r WHERE d.id = r.id AND d.state = 'failed'
            )
            SELECT count(*)::integer INTO v_rows FROM resumed_tasks;
            moved := moved + v_rows;
            resumed := resumed + v_rows;
        END IF;
    END LOOP;
    -- Index: webhooks_idle, tasks_ready.
    FOR v_idle IN SELECT id FROM webhooks WHERE status <> 'ACTIVE' ORDER BY id LOOP
        EXIT WHEN moved >= p_limit;
        UPDATE tasks SET queue = 'webhook.held' WHERE id IN (
            SELECT t.id FROM tasks t WHERE t.queue = 'webhook' AND t.state = 0 AND t.key = v_idle.id::text LIMIT LEAST(v_share, p_limit - moved) FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        moved := moved + v_rows;
    END LOOP;
END $$;

-- Notes an attempt. Verdicts: 0 accepted, 1 failed and tried again, 2 failed for the last time, 3 gone: the endpoint wants no more.
CREATE FUNCTION note_webhook_attempt(
    p_webhook uuid, p_attempt uuid, p_delivery uuid, p_type text, p_number integer, p_verdict smallint, p_status integer, p_duration integer, p_error text,
    p_answer text, OUT was text, OUT url text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now   timestamptz := clock_timestamp();
    v_state text;
    w       webhooks%ROWTYPE;
BEGIN
    SELECT * INTO w FROM webhooks WHERE id = p_webhook FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    was := w.status;
    url := w.url;
    INSERT INTO webhook_attempts (webhook_id, id, delivery_id, type, number, at, status, duration_ms, error, answer)
    VALUES (p_webhook, p_attempt, p_delivery, p_type, p_number, v_now, p_status, p_duration, p_error, p_answer);
    -- Index: webhook_deliveries_pkey.
    SELECT d.state INTO v_state FROM webhook_deliveries d WHERE d.id = p_delivery FOR UPDATE;
    IF v_state = 'delivered' AND p_verdict <> 0 THEN
        -- Of a second attempt, whose lease was lost: the endpoint has the event, and failed nothing.
        was := NULL;
        RETURN;
    END IF;
    UPDATE webhook_deliveries SET attempts = p_number, at = v_now, state = CASE p_verdict WHEN 0 THEN 'delivered' WHEN 1 THEN 'queued' ELSE 'failed' END
    WHERE id = p_delivery;
    IF p_verdict = 0 THEN
        UPDATE webhooks SET failure_count = 0, last_error = NULL WHERE id = p_webhook AND (failure_count > 0 OR last_error IS NOT NULL);
        RETURN;
    END IF;
    UPDATE webhooks SET failure_count = failure_count + 1, last_error = p_error,
        status = CASE WHEN p_verdict = 3 THEN 'DISABLED' WHEN p_verdict = 2 AND w.status = 'ACTIVE' THEN 'FAILED' ELSE w.status END
    WHERE id = p_webhook;
END $$;

-- Sends once more what one endpoint was sent, or failed to get, in a time; answers how many events that are. At most p_limit, the oldest first. An event that was
-- sent again since is of the time of its last sending, so that the same once more goes on behind the last ones.
CREATE FUNCTION replay_webhook(p_webhook uuid, p_since timestamptz, p_until timestamptz, p_failed boolean, p_limit integer) RETURNS integer LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now    timestamptz := clock_timestamp();
    v_status text;
    v_rows   integer;
    v_from   uuid := first_uuid7(p_since - interval '1 second');
    v_to     uuid := first_uuid7(LEAST(p_until, v_now) + interval '1 second');
    v_events uuid[];
BEGIN
    SELECT status INTO v_status FROM webhooks WHERE id = p_webhook FOR UPDATE;
    IF NOT FOUND THEN RETURN -1; END IF;
    -- Index: webhook_deliveries_failed or webhook_deliveries_webhook; webhook_deliveries_event, webhook_events_pkey.
    IF p_failed THEN
        v_events := ARRAY(
            SELECT d.event_id FROM webhook_deliveries d
            WHERE d.webhook_id = p_webhook AND d.state = 'failed' AND d.id >= v_from AND d.id < v_to AND d.created_at >= p_since AND d.created_at < p_until
              AND NOT EXISTS (SELECT FROM webhook_deliveries l WHERE l.webhook_id = p_webhook AND l.event_id = d.event_id AND l.id > d.id)
              AND EXISTS (SELECT FROM webhook_events e WHERE e.id = d.event_id)
            ORDER BY d.id LIMIT p_limit);
    ELSE
        v_events := ARRAY(
            SELECT d.event_id FROM webhook_deliveries d
            WHERE d.webhook_id = p_webhook AND d.state <> 'queued' AND d.id >= v_from AND d.id < v_to AND d.created_at >= p_since AND d.created_at < p_until
              AND NOT EXISTS (SELECT FROM webhook_deliveries l WHERE l.webhook_id = p_webhook AND l.event_id = d.event_id AND l.id > d.id)
              AND EXISTS (SELECT FROM webhook_events e WHERE e.id = d.event_id)
            ORDER BY d.id LIMIT p_limit);
    END IF;
    WITH delivery AS (
        INSERT INTO webhook_deliveries (id, webhook_id, event_id, state, created_at, at)
        SELECT make_uuid7(v_now), p_webhook, e, 'queued', v_now, v_now FROM unnest(v_events) AS e RETURNING id, event_id
    )
    INSERT INTO tasks (id, queue, key, priority, state, run_at, payload, created_at)
    SELECT id, CASE v_status WHEN 'ACTIVE' THEN 'webhook' ELSE 'webhook.held' END, p_webhook::text, 0::smallint, 0, v_now, event_id::text, v_now FROM delivery;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END $$;

-- The same, once for each claim of a request, whose answer is kept with it.
CREATE FUNCTION replay_webhook_once(
    p_webhook uuid, p_since timestamptz, p_until timestamptz, p_failed boolean, p_limit integer, p_owner uuid, p_route text, p_key text, p_digest bytea,
    OUT repeated boolean, OUT replayed integer
) LANGUAGE plpgsql AS $$
BEGIN
    repeated := NOT claim_request(p_owner, p_route, p_key, p_digest, '');
    IF repeated THEN RETURN; END IF;
    replayed := replay_webhook(p_webhook, p_since, p_until, p_failed, p_limit);
    PERFORM keep_answer(p_owner, p_route, p_key, 202, CASE WHEN replayed >= 0 THEN format('{"replayed":%s}', replayed) END);
END $$;

-- A webhook, unless its customer has as many as may be, or its request was carried out before. 0 made, 1 too many, 2 made before.
CREATE FUNCTION create_webhook(
    p_id uuid, p_url text, p_events text[], p_customer text, p_description text, p_secret bytea, p_created timestamptz, p_limit integer,
    p_claim_owner uuid, p_claim_route text, p_claim_key text, p_claim_digest bytea, p_claim_answer text
) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    -- Two at once could both be the last.
    PERFORM pg_advisory_xact_lock(hashtext('carillon.webhooks'), hashtext(COALESCE(p_customer, '')));
    IF NOT claim_request(p_claim_owner, p_claim_route, p_claim_key, p_claim_digest, p_claim_answer) THEN RETURN 2; END IF;
    IF (SELECT count(*) FROM webhooks WHERE customer_id IS NOT DISTINCT FROM p_customer) >= p_limit THEN
        DELETE FROM idempotency WHERE owner = p_claim_owner AND route = p_claim_route AND key = p_claim_key;
        RETURN 1;
    END IF;
    INSERT INTO webhooks (id, url, events, customer_id, description, secret, created_at)
    VALUES (p_id, p_url, p_events, p_customer, p_description, p_secret, p_created);
    RETURN 0;
END $$;

-- Gives it another secret; the one before stays good for so long. -1: there is no such webhook here; 2: the request was carried out before.
CREATE FUNCTION rotate_webhook(
    p_id uuid, p_scope text[], p_secret bytea, p_overlap interval,
    p_claim_owner uuid, p_claim_route text, p_claim_key text, p_claim_digest bytea, p_claim_answer text
) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM webhooks WHERE id = p_id AND (p_scope IS NULL OR customer_id = ANY (p_scope)) FOR UPDATE;
    IF NOT FOUND THEN RETURN -1; END IF;
    IF NOT claim_request(p_claim_owner, p_claim_route, p_claim_key, p_claim_digest, p_claim_answer) THEN RETURN 2; END IF;
    UPDATE webhooks SET old_secret = secret, old_until = clock_timestamp() + p_overlap, secret = p_secret WHERE id = p_id;
    RETURN 0;
END $$;

-- Changes what is not null; a description of '' is none. False: there is no such webhook here.
CREATE FUNCTION change_webhook(p_id uuid, p_scope text[], p_url text, p_events text[], p_description text, p_status text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE webhooks SET url = COALESCE(p_url, url), events = COALESCE(p_events, events),
        description = CASE WHEN p_description IS NULL THEN description ELSE NULLIF(p_description, '') END, status = COALESCE(p_status, status),
        failure_count = CASE p_status WHEN 'ACTIVE' THEN 0 ELSE failure_count END, last_error = CASE p_status WHEN 'ACTIVE' THEN NULL ELSE last_error END
    WHERE id = p_id AND (p_scope IS NULL OR customer_id = ANY (p_scope));
    RETURN FOUND;
END $$;

-- What waits for it ends with its turn; what it was told stays in the log until its retention ends.
CREATE FUNCTION delete_webhook(p_id uuid, p_scope text[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM webhooks WHERE id = p_id AND (p_scope IS NULL OR customer_id = ANY (p_scope));
    RETURN FOUND;
END $$;

-- The event of a job, once, with its users as long as they are no more than fit one.
CREATE FUNCTION add_job_event(
    p_job uuid, p_type text, p_event text, p_customer text, p_at timestamptz, p_run_at timestamptz, p_priority smallint, p_body text, p_most integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_total integer;
    v_trace text;
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks) OR EXISTS (SELECT FROM webhook_events WHERE id = p_job) THEN RETURN 0; END IF;
    SELECT total, trace INTO v_total, v_trace FROM jobs WHERE id = p_job;
    RETURN add_webhook_event(
        p_job, p_type, p_event, p_customer, p_at, p_run_at, p_priority,
        '{' || p_body || ',"job_id":"' || p_job || '","user_count":' || v_total || CASE WHEN v_total > p_most THEN '' ELSE
            ',"user_ids":' || to_json(ARRAY(SELECT user_id FROM job_users WHERE job_id = p_job ORDER BY user_id))::text END || '}', v_trace);
END $$;

-- Takes a user out of the events of one portion, in the order of their ids; an event of nobody else goes, and is not sent any more. Answers where the next portion
-- begins, null after the last, and how many had the user. An event's users are the strings of its array "user_ids", not of any deeper one. Data that is no jsonb,
-- as with U+0000 in it, names none.
CREATE FUNCTION erase_from_events(p_user text, p_after uuid, p_limit integer, OUT next uuid, OUT changed bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_event record;
    v_data  jsonb;
    v_named bigint;
    v_left  text;
    v_text  text;
BEGIN
    -- Index: webhook_events_pkey.
    next := (SELECT e.id FROM (SELECT id FROM webhook_events WHERE id > p_after ORDER BY id LIMIT p_limit) e ORDER BY e.id DESC LIMIT 1);
    changed := 0;
    FOR v_event IN
        SELECT w.id, w.data FROM webhook_events w WHERE w.id > p_after AND w.id <= next AND strpos(w.data, to_json(p_user)::text) > 0
    LOOP
        BEGIN
            v_data := v_event.data::jsonb;
            CONTINUE WHEN jsonb_typeof(v_data -> 'user_ids') IS DISTINCT FROM 'array';
            SELECT count(*) FILTER (WHERE u.value = to_jsonb(p_user)), string_agg(u.value::text, ',' ORDER BY u.place) FILTER (WHERE u.value <> to_jsonb(p_user))
            INTO v_named, v_left
            FROM jsonb_array_elements(v_data -> 'user_ids') WITH ORDINALITY AS u(value, place);
            CONTINUE WHEN v_named = 0;
            IF v_left IS NULL THEN
                DELETE FROM webhook_events w WHERE w.id = v_event.id;
            ELSE
                v_left := '[' || v_left || ']';
                v_data := jsonb_set(v_data, '{user_ids}', v_left::jsonb);
                -- Where the users stand at the end, as they are written above, the rest stays as it is, byte for byte.
                v_text := substring(v_event.data FROM '^(.*"user_ids":)\[.*\]\}$') || v_left || '}';
                BEGIN
                    IF (v_text::jsonb = v_data) IS NOT TRUE THEN v_text := v_data::text; END IF;
                EXCEPTION WHEN data_exception THEN
                    v_text := v_data::text;
                END;
                UPDATE webhook_events w SET data = v_text WHERE w.id = v_event.id;
            END IF;
            changed := changed + 1;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            CONTINUE;
        END;
    END LOOP;
END $$;

-- What providers of texts call them, for their callbacks.
CREATE INDEX deliveries_sms ON deliveries (reference) WHERE channel = 'sms' AND reference IS NOT NULL;
