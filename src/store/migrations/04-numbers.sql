-- Numbers that go on rising from one process to the next.
CREATE TABLE numbers (
    name TEXT    NOT NULL PRIMARY KEY,
    -- None below it is free.
    next INTEGER NOT NULL
) STRICT;
