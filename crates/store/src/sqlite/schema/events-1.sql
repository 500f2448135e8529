-- What waits to be run or sent. The payload comes last, so that nothing else lies behind its pages.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    account TEXT NOT NULL,
    -- The function's name, or empty and `destination` says where to.
    name TEXT NOT NULL,
    qualifier TEXT,
    destination TEXT,
    accepted_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    context TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;

-- What is configured: by kind, account and key. `mark` is how far a schedule has come, milliseconds since the epoch.
CREATE TABLE setting (
    kind INTEGER NOT NULL,
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    generation INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, account, key)
) STRICT, WITHOUT ROWID;
