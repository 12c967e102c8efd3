-- Streams that were declared, with their settings.
CREATE TABLE streams (
    name          TEXT    NOT NULL PRIMARY KEY,
    title         TEXT,
    -- Seconds; NULL: as configured.
    grace         INTEGER,
    -- Milliseconds since 1970, as all times here.
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

-- Publish keys and admin tokens, in the order in which they were made (rowid).
CREATE TABLE keys (
    id            TEXT    NOT NULL PRIMARY KEY,
    -- The stream that the key opens; NULL: an admin token.
    stream        TEXT,
    name          TEXT,
    -- SHA-256 of the key, which is kept nowhere.
    hash          BLOB    NOT NULL UNIQUE,
    -- Its last four characters.
    hint          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    last_used_at  INTEGER
) STRICT;
