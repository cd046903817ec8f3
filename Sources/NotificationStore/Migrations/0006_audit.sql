-- Who changed what, when, from where, and what came of it: one row a writing request, written behind it by the node that answered it.
--
-- Ids are UUIDv7 of the time of the request, so that the key serves lists by time and retention too.
CREATE TABLE audit (
    id           uuid PRIMARY KEY,
    at           timestamptz NOT NULL,
    subject_kind text,                                -- user, key; null: nobody that could be told
    subject      text COLLATE "C",                    -- the user's id, or the key's
    subject_name text,                                -- the key's name at that time
    method       text NOT NULL,
    route        text,                                -- with its parameters' names; null: there is no such route here
    ids          jsonb,                               -- the parameters by name
    status       smallint NOT NULL,
    count        integer NOT NULL,                    -- requests that were added up in this row
    address      text NOT NULL,
    request_id   text NOT NULL                        -- of the first of them
);
CREATE INDEX audit_subject ON audit (subject, id) WHERE subject IS NOT NULL;
