-- What users prefer, where they are reached, and what became of what was to be sent to them.

-- One row for the user in general (customer_id ''), and one for each customer that something was said about. A row that says nothing is not kept.
CREATE TABLE preferences (
    user_id     text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    body        text NOT NULL,                        -- canonical JSON: equal text, equal preferences
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, customer_id)
);

CREATE TABLE contacts (
    user_id          text COLLATE "C" PRIMARY KEY,
    email            text,
    phone            text,                            -- E.164
    locale           text,                            -- BCP 47
    timezone         text,                            -- IANA
    telegram_chat_id text,
    updated_at       timestamptz NOT NULL
);

-- One row for each channel and address besides the inbox itself, whose rows say all about it. Rows of users who were left out altogether have an id
-- that no notification has.
CREATE TABLE deliveries (
    user_id         text COLLATE "C" NOT NULL,
    notification_id uuid NOT NULL,
    channel         text NOT NULL,
    endpoint        text COLLATE "C" NOT NULL DEFAULT '',  -- '' where there is none: it was suppressed before one was looked for
    state           text NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'delivered', 'failed', 'suppressed', 'dead')),
    reason          text,                             -- of what was suppressed a word; else what the last attempt failed with
    type            text NOT NULL,
    event           text,
    customer_id     text,
    attempts        smallint NOT NULL DEFAULT 0,
    reference       text,                             -- what the provider calls it
    not_before      timestamptz,                      -- the end of quiet hours, when it is due, or when it is tried again
    created_at      timestamptz NOT NULL,
    at              timestamptz NOT NULL,             -- of its state
    PRIMARY KEY (user_id, notification_id, channel, endpoint)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_age ON deliveries USING brin (created_at);
