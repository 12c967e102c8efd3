-- Restream targets, in the order in which they were added (rowid).
CREATE TABLE targets (
    id            TEXT    NOT NULL PRIMARY KEY,
    stream        TEXT    NOT NULL,
    -- As typed, with its stream key: it must go out again as it is.
    url           TEXT    NOT NULL,
    -- NULL: called by its host.
    name          TEXT,
    enabled       INTEGER NOT NULL,
    -- Bits a second of the sound; NULL: as it comes.
    audio_bitrate INTEGER,
    -- Milliseconds since 1970.
    created_at    INTEGER NOT NULL,
    -- Rises with each change.
    version       INTEGER NOT NULL
) STRICT;
