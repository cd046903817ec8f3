-- What the edge reads: for many users at once the head, and the changes after a position. One statement, one snapshot.
--
-- A row without a change is the head alone: nothing new, or no complete replay from there (another epoch, ahead of the head, over
-- p_limit changes, or further back than the log goes; the caller sees it by comparing head and rows). Of a long replay the first p_rows changes
-- come. Where the log still has it,
-- the change at the position itself comes first: it knows the counts at that point.
--
-- Each LIMIT keeps its part a lookup by key for every user: without them the planner joins as it likes, and reads the whole log for a few.
CREATE FUNCTION read_feed(p_users text[], p_epochs bigint[], p_after bigint[], p_rows integer[], p_limit integer)
RETURNS TABLE (
    request integer, epoch bigint, head_seq bigint, head_unread integer, head_unseen integer, head_customers text,
    seq bigint, kind smallint, notification_id uuid, state smallint, read_at timestamptz, unread integer, unseen integer,
    customer_id text, customer_unread integer, customer_unseen integer, customer_counts text, customer_counts_before text, type text, up_to_seq bigint,
    at timestamptz, body text, is_known boolean
) LANGUAGE sql STABLE AS $$
    SELECT q.request::integer, GREATEST(h.epoch, c.epoch), COALESCE(h.seq, 0), COALESCE(h.unread, 0), COALESCE(h.unseen, 0),
           COALESCE(customer_counts(h.counts), '{}')::text,
           g.seq, g.kind, g.notification_id, g.state, g.read_at, g.unread, g.unseen,
           g.customer_id, g.customer_unread, g.customer_unseen, g.customer_counts::text, g.customer_counts_before::text, g.type, g.up_to_seq, g.at, n.body,
           COALESCE(h.is_known, false)
    FROM unnest(p_users, p_epochs, p_after, p_rows) WITH ORDINALITY AS q(user_id, epoch, after, rows, request)
    -- It is one row, which the planner does not know of a table that was never analysed.
    CROSS JOIN (SELECT c.epoch FROM cluster c LIMIT 1) c
    LEFT JOIN LATERAL (SELECT * FROM heads h WHERE h.user_id = q.user_id LIMIT 1) h ON true
    LEFT JOIN LATERAL (
        SELECT * FROM changes g
        WHERE g.user_id = q.user_id AND g.seq >= q.after AND g.seq <= q.after + q.rows
          AND q.epoch = GREATEST(h.epoch, c.epoch) AND h.seq - q.after BETWEEN 1 AND p_limit
        ORDER BY g.seq LIMIT p_limit + 1
    ) g ON true
    LEFT JOIN LATERAL (SELECT n.body FROM notifications n WHERE n.user_id = q.user_id AND n.id = g.notification_id LIMIT 1) n ON true
    ORDER BY q.request, g.seq
$$;
