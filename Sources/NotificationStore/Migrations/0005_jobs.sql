-- Notifications for many users: written down first, then carried out in chunks by the node that holds the job's lease.

CREATE TABLE jobs (
    id          uuid PRIMARY KEY,
    body        text NOT NULL,                        -- the request as it came, without its users
    told        boolean NOT NULL,                     -- what becomes of each user is kept for the request's answer
    state       text NOT NULL CHECK (state IN ('loading', 'queued', 'running', 'done', 'failed')),
    created_at  timestamptz NOT NULL,
    turn        timestamptz NOT NULL DEFAULT clock_timestamp(),  -- the earlier it says, the sooner it is taken up: see job_turn
    total       integer NOT NULL DEFAULT 0,
    done        integer NOT NULL DEFAULT 0,
    skipped     integer NOT NULL DEFAULT 0,
    failed      integer NOT NULL DEFAULT 0,
    position    text COLLATE "C" NOT NULL DEFAULT '', -- the last user that was dealt with, in byte order
    lease_owner uuid,
    lease_until timestamptz,                          -- of a job that is being loaded: until it counts as left behind
    ended_at    timestamptz,
    has_users   boolean NOT NULL DEFAULT true,        -- rows of job_users, which go soon after its end
    again       boolean NOT NULL DEFAULT false,       -- it ended before, and not everybody had been written to
    trace       text CHECK (octet_length(trace) = 55) -- of its request, if that is traced: its traceparent (W3C Trace Context)
) WITH (fillfactor = 50);
CREATE INDEX jobs_open ON jobs (turn) WHERE ended_at IS NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL AND NOT has_users;
CREATE INDEX jobs_peopled ON jobs (ended_at) WHERE ended_at IS NOT NULL AND has_users;

CREATE TABLE job_users (
    job_id  uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (job_id, user_id)
);

-- Makes the claim of a request with an Idempotency-Key; false when it was made before, at most a day ago.
CREATE FUNCTION claim_request(p_owner uuid, p_route text, p_key text, p_digest bytea, p_answer text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_key IS NULL THEN RETURN true; END IF;
    INSERT INTO idempotency AS c (owner, route, key, digest, answer, at) VALUES (p_owner, p_route, p_key, p_digest, p_answer, clock_timestamp())
    ON CONFLICT (owner, route, key) DO UPDATE SET digest = EXCLUDED.digest, answer = EXCLUDED.answer, ids = '{}', seqs = '{}', at = EXCLUDED.at
    WHERE c.at < clock_timestamp() - interval '24 hours';
    RETURN FOUND;
END $$;

-- Those of a higher priority (1 is the usual one) go before others: as if they had come an hour earlier for each step, so that none waits for ever.
CREATE FUNCTION job_turn(p_created timestamptz, p_priority smallint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT p_created - (p_priority - 1) * interval '1 hour'
$$;

-- A whole job at once. With an owner it is that one's to carry out. Answers the number of users; null when its claim was made before. The
-- same job again, by a caller who did not hear of the first time, changes nothing.
CREATE FUNCTION add_job(
    p_job uuid, p_body text, p_told boolean, p_created timestamptz, p_users text[], p_owner uuid, p_lease interval,
    p_claim_owner uuid, p_claim_route text, p_claim_key text, p_claim_digest bytea, p_claim_answer text,
    p_trace text, p_priority smallint
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_total integer;
BEGIN
    SELECT total INTO v_total FROM jobs WHERE id = p_job;
    IF FOUND THEN RETURN v_total; END IF;
    IF NOT claim_request(p_claim_owner, p_claim_route, p_claim_key, p_claim_digest, p_claim_answer) THEN
        -- It may be this very job's: the first attempt was still under way when this one looked. Null when it is not.
        SELECT total INTO v_total FROM jobs WHERE id = p_job;
        RETURN v_total;
    END IF;
    INSERT INTO job_users SELECT DISTINCT p_job, u COLLATE "C" AS u FROM unnest(p_users) AS t(u) ORDER BY u;
    GET DIAGNOSTICS v_total = ROW_COUNT;
    INSERT INTO jobs (id, body, told, state, created_at, total, lease_owner, lease_until, trace, turn)
    VALUES (p_job, p_body, p_told, CASE WHEN p_owner IS NULL THEN 'queued' ELSE 'running' END, p_created, v_total, p_owner,
            CASE WHEN p_owner IS NOT NULL THEN clock_timestamp() + p_lease END, p_trace, job_turn(p_created, p_priority));
    RETURN v_total;
END $$;

-- Some more users of a job whose request is still coming in. False when it was given up.
CREATE FUNCTION load_job(p_job uuid, p_users text[], p_lease interval) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_rows integer;
BEGIN
    PERFORM FROM jobs WHERE id = p_job AND state = 'loading' FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO job_users SELECT p_job, u COLLATE "C" AS u FROM unnest(p_users) AS t(u) ORDER BY u ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    UPDATE jobs SET total = total + v_rows, lease_until = clock_timestamp() + p_lease WHERE id = p_job;
    RETURN true;
END $$;

-- All of it has come: from here on it is carried out, whatever dies. Answers the number of users; null when its claim was made before, -1
-- when it was given up.
CREATE FUNCTION queue_job(
    p_job uuid, p_claim_owner uuid, p_claim_route text, p_claim_key text, p_claim_digest bytea, p_claim_answer text
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    j jobs%ROWTYPE;
BEGIN
    SELECT * INTO j FROM jobs WHERE id = p_job FOR UPDATE;
    IF NOT FOUND THEN RETURN -1; END IF;
    IF j.state = 'failed' THEN RETURN -1; END IF;
    IF j.state <> 'loading' THEN RETURN j.total; END IF;
    IF NOT claim_request(p_claim_owner, p_claim_route, p_claim_key, p_claim_digest, p_claim_answer) THEN RETURN NULL; END IF;
    UPDATE jobs SET state = 'queued', lease_until = NULL WHERE id = p_job;
    RETURN j.total;
END $$;

-- Notes that everybody from p_from (exclusive) to p_to was dealt with, keeps the lease, and answers the next users. Not held: the lease, or
-- that very step, is somebody else's by now. Without further users the job is done.
CREATE FUNCTION advance_job(
    p_job uuid, p_owner uuid, p_lease interval, p_from text, p_to text, p_done integer, p_skipped integer, p_failed integer,
    p_limit integer, OUT held boolean, OUT users text[]
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE jobs SET position = p_to, done = done + p_done, skipped = skipped + p_skipped, failed = failed + p_failed,
                    lease_until = clock_timestamp() + p_lease
    WHERE id = p_job AND lease_owner = p_owner AND position = p_from AND ended_at IS NULL;
    held := FOUND;
    users := '{}';
    IF NOT held THEN RETURN; END IF;
    users := ARRAY(SELECT user_id FROM job_users WHERE job_id = p_job AND user_id > p_to ORDER BY user_id LIMIT p_limit);
    IF users = '{}' THEN
        -- Who was erased after a chunk that had the user is counted in it.
        UPDATE jobs SET state = 'done', total = done + skipped + failed, ended_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL WHERE id = p_job;
    END IF;
END $$;

-- Takes up once more a job that did not get to everybody, for the same request with the same key: whom it has written to is known by the claims of its chunks.
-- Its users are those of p_users, and those that have been loaded under p_from. False: it is done, under way, or gone.
CREATE FUNCTION reopen_job(p_job uuid, p_users text[], p_from uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM jobs WHERE id = p_job AND ended_at IS NOT NULL AND (state = 'failed' OR failed > 0) FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO job_users
    SELECT p_job, u FROM (SELECT u COLLATE "C" AS u FROM unnest(p_users) AS t(u) UNION SELECT user_id FROM job_users WHERE job_id = p_from) AS d
    ORDER BY u ON CONFLICT DO NOTHING;
    UPDATE jobs SET state = 'queued', position = '', done = 0, skipped = 0, failed = 0, total = (SELECT count(*) FROM job_users WHERE job_id = p_job),
                    ended_at = NULL, has_users = true, again = true, lease_owner = NULL, lease_until = NULL
    WHERE id = p_job;
    RETURN true;
END $$;
