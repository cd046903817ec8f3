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

-- Queues an event for one endpoint. What is for one that failed or is disabled waits in a queue that nobody works off.
CREATE FUNCTION queue_webhook(p_webhook uuid, p_status text, p_event uuid, p_priority smallint, p_run_at timestamptz, p_now timestamptz) RETURNS void LANGUAGE sql AS $$
    WITH delivery AS (
        INSERT INTO webhook_deliveries (id, webhook_id, event_id, state, created_at, at)
        VALUES (make_uuid7(p_now), p_webhook, p_event, 'queued', p_now, p_now) RETURNING id
    )
    INSERT INTO tasks (id, queue, key, priority, state, run_at, payload, created_at)
    SELECT id, CASE p_status WHEN 'ACTIVE' THEN 'webhook' ELSE 'webhook.held' END, p_webhook::text, p_priority,
           CASE WHEN p_run_at > p_now THEN 1 ELSE 0 END, GREATEST(p_run_at, p_now), p_event::text, p_now
    FROM delivery
$$;

-- An event goes to every endpoint that asked for such; answers to how many. The same event again changes nothing. Without an endpoint it is not kept.
CREATE FUNCTION add_webhook_event(
    p_id uuid, p_type text, p_event text, p_customer text, p_at timestamptz, p_run_at timestamptz, p_priority smallint, p_data text
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
        PERFORM queue_webhook(w.id, w.status, p_id, p_priority, p_run_at, v_now);
        v_rows := v_rows + 1;
    END LOOP;
    RETURN v_rows;
END $$;

-- An endpoint that is none of the active ones has what is queued for it set aside; one that is active again gets it, from the first attempt on.
CREATE FUNCTION move_webhook_tasks(p_webhook uuid, p_active boolean) RETURNS void LANGUAGE sql AS $$
    -- Index: tasks_ready for what is ready, tasks_time for what waits for its time.
    UPDATE tasks SET queue = CASE WHEN p_active THEN 'webhook' ELSE 'webhook.held' END, attempts = CASE WHEN p_active THEN 0 ELSE attempts END,
                     run_at = CASE WHEN p_active AND state = 0 THEN clock_timestamp() ELSE run_at END
    WHERE queue = CASE WHEN p_active THEN 'webhook.held' ELSE 'webhook' END AND key = p_webhook::text
      -- Its worker died while it set it aside: it is claimed anew like any whose lease is over.
      AND (state IN (0, 1) OR p_active AND state = 2 AND run_at <= clock_timestamp())
$$;

-- Notes an attempt. Verdicts: 0 accepted, 1 failed and tried again, 2 failed for the last time, 3 gone: the endpoint wants no more.
CREATE FUNCTION note_webhook_attempt(
    p_webhook uuid, p_attempt uuid, p_delivery uuid, p_type text, p_number integer, p_verdict smallint, p_status integer, p_duration integer, p_error text,
    p_answer text, OUT was text, OUT url text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    w     webhooks%ROWTYPE;
BEGIN
    SELECT * INTO w FROM webhooks WHERE id = p_webhook FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    was := w.status;
    url := w.url;
    INSERT INTO webhook_attempts (webhook_id, id, delivery_id, type, number, at, status, duration_ms, error, answer)
    VALUES (p_webhook, p_attempt, p_delivery, p_type, p_number, v_now, p_status, p_duration, p_error, p_answer);
    UPDATE webhook_deliveries SET attempts = p_number, at = v_now, state = CASE p_verdict WHEN 0 THEN 'delivered' WHEN 1 THEN 'queued' ELSE 'failed' END
    WHERE id = p_delivery;
    IF p_verdict = 0 THEN
        UPDATE webhooks SET failure_count = 0, last_error = NULL WHERE id = p_webhook AND (failure_count > 0 OR last_error IS NOT NULL);
        RETURN;
    END IF;
    UPDATE webhooks SET failure_count = failure_count + 1, last_error = p_error,
        status = CASE WHEN p_verdict = 3 THEN 'DISABLED' WHEN p_verdict = 2 AND w.status = 'ACTIVE' THEN 'FAILED' ELSE w.status END
    WHERE id = p_webhook;
    IF p_verdict > 1 AND w.status = 'ACTIVE' THEN PERFORM move_webhook_tasks(p_webhook, false); END IF;
END $$;

-- Sends once more what one endpoint was sent, or failed to get, in a time; answers how many events that are. At most p_limit.
CREATE FUNCTION replay_webhook(p_webhook uuid, p_since timestamptz, p_until timestamptz, p_failed boolean, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_now    timestamptz := clock_timestamp();
    v_status text;
    v_rows   integer := 0;
    d        record;
BEGIN
    SELECT status INTO v_status FROM webhooks WHERE id = p_webhook FOR UPDATE;
    IF NOT FOUND THEN RETURN -1; END IF;
    -- Index: webhook_deliveries_webhook. An event that was sent again already counts by its last delivery.
    FOR d IN
        SELECT l.event_id FROM (
            SELECT DISTINCT ON (event_id) event_id, state, id FROM webhook_deliveries
            WHERE webhook_id = p_webhook AND created_at >= p_since AND created_at < p_until ORDER BY event_id, id DESC) l
        JOIN webhook_events e ON e.id = l.event_id
        WHERE l.state = 'failed' OR (NOT p_failed AND l.state = 'delivered') ORDER BY l.id LIMIT p_limit
    LOOP
        PERFORM queue_webhook(p_webhook, v_status, d.event_id, 0::smallint, v_now, v_now);
        v_rows := v_rows + 1;
    END LOOP;
    RETURN v_rows;
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

-- Changes what is not null; a description of '' is none. What is queued follows the status. False: there is no such webhook here.
CREATE FUNCTION change_webhook(p_id uuid, p_scope text[], p_url text, p_events text[], p_description text, p_status text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_was text;
BEGIN
    SELECT status INTO v_was FROM webhooks WHERE id = p_id AND (p_scope IS NULL OR customer_id = ANY (p_scope)) FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE webhooks SET url = COALESCE(p_url, url), events = COALESCE(p_events, events),
        description = CASE WHEN p_description IS NULL THEN description ELSE NULLIF(p_description, '') END, status = COALESCE(p_status, status),
        failure_count = CASE p_status WHEN 'ACTIVE' THEN 0 ELSE failure_count END, last_error = CASE p_status WHEN 'ACTIVE' THEN NULL ELSE last_error END
    WHERE id = p_id;
    IF p_status IS NOT NULL AND (p_status = 'ACTIVE') <> (v_was = 'ACTIVE') THEN PERFORM move_webhook_tasks(p_id, p_status = 'ACTIVE'); END IF;
    RETURN true;
END $$;

-- With all that waits for it; what it was told stays in the log until its retention ends.
CREATE FUNCTION delete_webhook(p_id uuid, p_scope text[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM webhooks WHERE id = p_id AND (p_scope IS NULL OR customer_id = ANY (p_scope));
    IF NOT FOUND THEN RETURN false; END IF;
    DELETE FROM tasks WHERE queue IN ('webhook', 'webhook.held') AND key = p_id::text AND state IN (0, 1);
    RETURN true;
END $$;

-- The event of a job, once, with its users as long as they are no more than fit one.
CREATE FUNCTION add_job_event(
    p_job uuid, p_type text, p_event text, p_customer text, p_at timestamptz, p_run_at timestamptz, p_priority smallint, p_body text, p_most integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_total integer;
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks) OR EXISTS (SELECT FROM webhook_events WHERE id = p_job) THEN RETURN 0; END IF;
    SELECT total INTO v_total FROM jobs WHERE id = p_job;
    RETURN add_webhook_event(
        p_job, p_type, p_event, p_customer, p_at, p_run_at, p_priority,
        '{' || p_body || ',"job_id":"' || p_job || '","user_count":' || v_total || CASE WHEN v_total > p_most THEN '' ELSE
            ',"user_ids":' || to_json(ARRAY(SELECT user_id FROM job_users WHERE job_id = p_job ORDER BY user_id))::text END || '}');
END $$;

-- What providers of texts call them, for their callbacks.
CREATE INDEX deliveries_sms ON deliveries (reference) WHERE channel = 'sms' AND reference IS NOT NULL;
