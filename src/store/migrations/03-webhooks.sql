-- Webhooks, in the order in which they were added (rowid).
CREATE TABLE webhooks (
    id         TEXT    NOT NULL PRIMARY KEY,
    -- As typed; its path and query may be secret.
    url        TEXT    NOT NULL,
    -- Names between commas; empty: all.
    events     TEXT    NOT NULL,
    streams    TEXT    NOT NULL,
    -- What deliveries are signed with: it must be known as it is.
    secret     TEXT    NOT NULL,
    enabled    INTEGER NOT NULL,
    -- Milliseconds since 1970.
    created_at INTEGER NOT NULL,
    -- Rises with each change.
    version    INTEGER NOT NULL
) STRICT;

-- What is to be sent, or could not be.
CREATE TABLE deliveries (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    webhook    TEXT    NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    -- NULL: the event concerns none.
    stream     TEXT,
    body       TEXT    NOT NULL,
    dead       INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    -- Milliseconds since 1970.
    next_try   INTEGER NOT NULL,
    -- Why the last attempt failed.
    error      TEXT,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_by_webhook ON deliveries (webhook, dead, id);
