-- The inbox: heads, notifications, the change log, and the commits that the tail reads.

-- One row: which life of the data this is. Positions compare as (epoch, seq).
CREATE TABLE cluster (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch         bigint NOT NULL DEFAULT 1,          -- of every user whose own epoch is not higher
    epoch_counter bigint NOT NULL DEFAULT 1,          -- the last epoch given out, to the cluster or to one user
    system_id     text,
    stored_in     text,                               -- this database and table: a copy, or what was loaded from a dump, is in another, also on the same server
    timeline      integer,
    lsn           pg_lsn,
    secret        bytea NOT NULL                      -- signs stream tickets and sessions
);
INSERT INTO cluster (secret)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- Where timelines began on which every commit that anybody had seen lived on: promotions that lost nothing.
CREATE TABLE timelines (
    timeline  integer PRIMARY KEY,
    forked_at pg_lsn NOT NULL
);

-- One row a user, the only row that every change of the user updates: no index besides the key, so that updates stay HOT.
CREATE TABLE heads (
    user_id  text COLLATE "C" PRIMARY KEY,
    epoch    bigint  NOT NULL,
    seq      bigint  NOT NULL DEFAULT 0,
    unread   integer NOT NULL DEFAULT 0 CHECK (unread >= 0),
    unseen   integer NOT NULL DEFAULT 0 CHECK (unseen >= 0),
    -- customer, U+001F, type -> [unread, unseen]; the type empty: the customer's sum; the customer empty: none.
    counts   jsonb   NOT NULL DEFAULT '{}',
    mark_seq bigint  NOT NULL DEFAULT 0,              -- all with state_seq up to here are read
    seen_seq bigint  NOT NULL DEFAULT 0,              -- all with state_seq up to here are seen
    -- Preferences or a contact of the user are kept, or were: who writes for one user learns by the way that there is something to be read.
    is_known boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

CREATE TABLE notifications (
    user_id      text COLLATE "C" NOT NULL,
    id           uuid NOT NULL,
    seq          bigint,                              -- of its creation; null: tracked only, or not due yet
    state_seq    bigint,                              -- of the last change that named it
    read         boolean NOT NULL DEFAULT false,
    seen         boolean NOT NULL DEFAULT false,
    archived     boolean NOT NULL DEFAULT false,
    revived      boolean NOT NULL DEFAULT false,      -- was below the mark when it was last touched: unread, or seen, one by one
    read_at      timestamptz,
    level        smallint NOT NULL,
    priority     smallint NOT NULL,
    type         text NOT NULL,
    event        text,
    customer_id  text,
    rec_type     text,
    rec_id       text,
    collapse_key text,
    created_at   timestamptz NOT NULL,
    deliver_at   timestamptz,
    expires_at   timestamptz,
    body         text NOT NULL,                       -- the members of its JSON that only a correction changes, encoded once
    PRIMARY KEY (user_id, id)
) WITH (fillfactor = 90);
-- Lists are merged from its ranges: unread ones, read ones, archived ones (which are read).
CREATE INDEX notifications_inbox ON notifications (user_id, archived, read, seq DESC) WHERE seq IS NOT NULL;
-- With what lies above the mark, all that can be unread.
CREATE INDEX notifications_revived ON notifications (user_id, seq DESC) WHERE revived AND NOT read;
-- "All read" with a filter goes in the order of state_seq: that of notifications_inbox, and of this one.
CREATE INDEX notifications_touched ON notifications (user_id, state_seq) WHERE state_seq > seq AND NOT read;
CREATE INDEX notifications_collapse ON notifications (user_id, collapse_key, state_seq) WHERE collapse_key IS NOT NULL AND NOT read;
CREATE INDEX notifications_due ON notifications (deliver_at) WHERE seq IS NULL AND deliver_at IS NOT NULL;
CREATE INDEX notifications_expiry ON notifications (expires_at) WHERE expires_at IS NOT NULL;
-- What corrections look for. Ids of version 7 arrive in order, at the index's right end.
CREATE INDEX notifications_id ON notifications (id);
CREATE INDEX notifications_record ON notifications (rec_type, rec_id, user_id, id) WHERE rec_type IS NOT NULL AND rec_id IS NOT NULL;
CREATE INDEX notifications_collapse_key ON notifications (collapse_key, user_id, id) WHERE collapse_key IS NOT NULL;
CREATE INDEX notifications_age ON notifications USING brin (created_at);

-- When the mark was set, so that read_at stays what it was after the next one.
CREATE TABLE marks (
    user_id text COLLATE "C" NOT NULL,
    seq     bigint NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (user_id, seq)
);

-- The stream is this table, in order. Kinds: 1 created, 2 updated, 3 deleted, 4 all read, 5 all seen, 6 expired, 7 replaced, 8 erased.
CREATE TABLE changes (
    user_id         text COLLATE "C" NOT NULL,
    seq             bigint NOT NULL,
    kind            smallint NOT NULL,
    notification_id uuid,
    state           smallint NOT NULL DEFAULT 0,      -- after it: 1 read, 2 seen, 4 archived
    read_at         timestamptz,
    unread          integer NOT NULL,
    unseen          integer NOT NULL,
    customer_id     text,
    customer_unread integer NOT NULL DEFAULT 0,
    customer_unseen integer NOT NULL DEFAULT 0,
    customer_counts jsonb,                            -- customer -> [unread, unseen] after a change of several customers
    customer_counts_before jsonb,                     -- and before it, from which a replay counts
    type            text,                             -- the filter of "all read"
    up_to_seq       bigint,
    its_type        text,                             -- of the notification that comes or goes with this change: of one that is gone nobody else knows it
    its_event       text,
    at              timestamptz NOT NULL,
    PRIMARY KEY (user_id, seq, at)
) PARTITION BY RANGE (at);
CREATE TABLE changes_other PARTITION OF changes DEFAULT;

-- One row a batch. The tail reads by xid; rows live for ten minutes.
CREATE TABLE commits (
    batch_id  uuid PRIMARY KEY,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    users     text[] NOT NULL,
    last_seqs bigint[] NOT NULL                       -- of each user; empty: preferences or a contact of the user are kept for the first time
);
CREATE INDEX commits_xid ON commits (xid);

-- What became of requests that carried an Idempotency-Key: written in the transaction of what they wrote, forgotten after a day.
CREATE TABLE idempotency (
    owner   uuid NOT NULL,                            -- the API key
    route   text NOT NULL,
    key     text COLLATE "C" NOT NULL,
    digest  bytea NOT NULL,                           -- SHA-256 of the body
    answer  text NOT NULL,                            -- but for the numbers:
    ids     uuid[] NOT NULL DEFAULT '{}',
    seqs    bigint[] NOT NULL DEFAULT '{}',
    at      timestamptz NOT NULL,
    PRIMARY KEY (owner, route, key)
);
CREATE INDEX idempotency_age ON idempotency (at);

CREATE TABLE apikeys (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    hash       bytea NOT NULL UNIQUE,                 -- SHA-256 of the key
    scopes     text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Weekly partitions from last week to the week after next; what is over is dropped. Answers how many were dropped.
-- With its owner's rights: nodes need not be allowed to make and drop tables.
CREATE FUNCTION keep_change_partitions(p_keep interval) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
-- Writers queue behind whoever waits for the log as a whole: rather later than long.
SET lock_timeout = '1s' AS $$
DECLARE
    v_from date; v_name text; v_lower timestamptz; v_upper timestamptz; v_dropped integer := 0; v_table record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('carillon.change_partitions'));
    FOR v_table IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = 'changes'::regclass AND c.relname ~ '^changes_[0-9]{8}$' LOOP
        IF to_date(substr(v_table.relname, 9), 'YYYYMMDD') + 7 < (now() AT TIME ZONE 'UTC' - p_keep)::date THEN
            EXECUTE format('DROP TABLE %I', v_table.relname);
            v_dropped := v_dropped + 1;
        END IF;
    END LOOP;
    DELETE FROM changes_other WHERE at < now() - p_keep;
    FOR i IN -1..2 LOOP
        v_from := date_trunc('week', now() AT TIME ZONE 'UTC')::date + i * 7;
        v_name := 'changes_' || to_char(v_from, 'YYYYMMDD');
        IF to_regclass(v_name) IS NULL THEN
            -- For a moment, once a week: a writer that had chosen its partition before would be refused by it. The log comes before its
            -- partitions, the order in which everybody locks them.
            LOCK TABLE ONLY changes IN ACCESS EXCLUSIVE MODE;
            v_lower := v_from::timestamp AT TIME ZONE 'UTC';
            v_upper := (v_from + 7)::timestamp AT TIME ZONE 'UTC';
            EXECUTE format('CREATE TABLE %I (LIKE changes INCLUDING DEFAULTS)', v_name);
            -- What was written while there was no partition for it would keep this one from ever being attached.
            EXECUTE format('WITH moved AS (DELETE FROM changes_other WHERE at >= %L AND at < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
                           v_lower, v_upper, v_name);
            EXECUTE format('ALTER TABLE changes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', v_name, v_lower, v_upper);
        END IF;
    END LOOP;
    RETURN v_dropped;
END $$;
SELECT keep_change_partitions('14 days');
-- With its owner's rights it is nobody else's to call, unless he says so, and nobody puts a table of his own in front of ours.
REVOKE EXECUTE ON FUNCTION keep_change_partitions(interval) FROM PUBLIC;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION keep_change_partitions(interval) SET search_path = %I, pg_temp', current_schema());
END $$;

-- Called on every fresh connection with how far the caller has seen the log, on which timeline, and the highest epoch. What went back, or
-- became another server or was loaded from a dump, is a new epoch, higher than any seen; of several callers that notice it the first one makes it.
--
-- A promotion is a new timeline that begins where the replica's replay ended. If all that is known to have been seen lies before that, nothing
-- was lost and the epoch stays; who comes later and has seen more makes a new one after all. A caller that has seen nothing of this epoch vouches for
-- nothing: a recovery to an earlier time, after which every node is a fresh one, looks just the same.
--
-- p_given is the highest epoch that the caller knows of a user who was erased: a server that never gave it has lost that, and its next epoch must
-- not be given twice.
CREATE FUNCTION observe_cluster(
    p_seen pg_lsn, p_epoch bigint, p_timeline integer, p_given bigint DEFAULT 0, OUT epoch bigint, OUT timeline integer, OUT lsn pg_lsn
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- What is on disk, not what was inserted last: that may be lost in a crash, with no commit that anybody heard of.
    c cluster%ROWTYPE; v_system text; v_table text; v_timeline integer; v_lsn pg_lsn := pg_current_wal_flush_lsn(); v_fork pg_lsn;
BEGIN
    SELECT system_identifier::text INTO v_system FROM pg_control_system();
    SELECT d.oid || '/' || 'cluster'::regclass::oid INTO v_table FROM pg_database d WHERE d.datname = current_database();
    -- From the name of the current WAL file: pg_control_checkpoint lags until the first checkpoint after a promotion.
    v_timeline := ('x' || substr(pg_walfile_name(v_lsn), 1, 8))::bit(32)::integer;
    SELECT * INTO c FROM cluster;
    timeline := v_timeline;
    lsn := v_lsn;
    epoch := c.epoch;
    IF c.system_id = v_system AND c.stored_in = v_table AND c.timeline = v_timeline AND v_lsn >= c.lsn AND p_given <= c.epoch_counter
       AND has_all_seen(c.epoch, v_timeline, v_lsn, p_epoch, p_timeline, p_seen) THEN
        RETURN;
    END IF;
    SELECT * INTO c FROM cluster FOR UPDATE;
    -- The one who held the lock has looked later than we did.
    v_lsn := pg_current_wal_flush_lsn();
    epoch := c.epoch;
    IF c.system_id IS NULL AND p_epoch = 0 THEN
        UPDATE cluster SET system_id = v_system, stored_in = v_table, timeline = v_timeline, lsn = v_lsn;
        RETURN;
    END IF;
    IF c.system_id = v_system AND c.stored_in = v_table AND v_timeline = c.timeline + 1 AND p_epoch = c.epoch AND p_seen > '0/0' THEN
        -- Where the replay of the promoted server ended; null when it did not begin with one.
        v_fork := pg_last_wal_replay_lsn();
        IF v_fork >= c.lsn AND p_given <= c.epoch_counter AND has_all_seen(c.epoch, c.timeline, v_fork, p_epoch, p_timeline, p_seen) THEN
            INSERT INTO timelines VALUES (v_timeline, v_fork);
            UPDATE cluster SET timeline = v_timeline, lsn = v_lsn;
            RETURN;
        END IF;
    END IF;
    IF c.system_id IS DISTINCT FROM v_system OR c.stored_in IS DISTINCT FROM v_table OR c.timeline <> v_timeline OR v_lsn < c.lsn
       OR p_given > c.epoch_counter OR NOT has_all_seen(c.epoch, v_timeline, v_lsn, p_epoch, p_timeline, p_seen) THEN
        epoch := epoch_after(GREATEST(c.epoch_counter, p_epoch, p_given));
        UPDATE cluster SET system_id = v_system, stored_in = v_table, timeline = v_timeline, lsn = v_lsn, epoch = observe_cluster.epoch,
                           epoch_counter = observe_cluster.epoch;
        -- What was seen before this epoch is void whatever became of it.
        DELETE FROM timelines;
    END IF;
END $$;

-- Whether this server still has everything up to the place that was seen on a timeline of its past.
CREATE FUNCTION has_all_seen(
    p_epoch bigint, p_timeline integer, p_lsn pg_lsn, p_seen_epoch bigint, p_seen_timeline integer, p_seen pg_lsn
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_epoch > p_seen_epoch OR (p_epoch = p_seen_epoch AND CASE
        WHEN p_seen = '0/0' THEN true
        WHEN p_seen_timeline = p_timeline THEN p_lsn >= p_seen
        ELSE p_seen_timeline < p_timeline
             AND (SELECT count(*) = p_timeline - p_seen_timeline AND min(forked_at) >= p_seen FROM timelines
                  WHERE timeline > p_seen_timeline AND timeline <= p_timeline)
        END)
$$;

-- A new epoch of the cluster is also above all that a life which nobody remembers may have given out after the backup that was restored, to itself, to a
-- restore before this one, or to users who were erased: those count on from one such number, slower than seconds go by.
CREATE FUNCTION epoch_after(p_known bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT GREATEST(p_known + 1, floor(EXTRACT(EPOCH FROM now()))::bigint)
$$;

CREATE FUNCTION advance_epoch() RETURNS bigint LANGUAGE sql AS $$
    UPDATE cluster SET epoch = epoch_after(epoch_counter), epoch_counter = epoch_after(epoch_counter) RETURNING epoch
$$;
