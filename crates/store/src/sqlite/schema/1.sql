-- Outlives what it counts: a deleted function's revisions are never given out again.
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counter (name, value) VALUES ('revision', 0);

CREATE TABLE function (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL UNIQUE,
    revision_id TEXT NOT NULL,
    code_digest BLOB NOT NULL CHECK (length(code_digest) = 32),
    code_size INTEGER NOT NULL,
    reserved_concurrency INTEGER,
    modified_ms INTEGER NOT NULL,
    config TEXT NOT NULL,
    status TEXT NOT NULL,
    tags TEXT NOT NULL,
    unfinished INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;

CREATE INDEX function_code ON function (code_digest);
CREATE INDEX function_unfinished ON function (account, name) WHERE unfinished = 1;
CREATE INDEX function_usage ON function (account, code_size, reserved_concurrency);
