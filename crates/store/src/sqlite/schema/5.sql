-- Outlives the versions: a number is never given out again.
CREATE TABLE layer_counter (
    account TEXT NOT NULL,
    layer TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (account, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE layer_version (
    account TEXT NOT NULL,
    layer TEXT NOT NULL,
    number INTEGER NOT NULL,
    code_digest BLOB NOT NULL CHECK (length(code_digest) = 32),
    code_size INTEGER NOT NULL,
    unzipped INTEGER NOT NULL,
    about TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (account, layer, number)
) STRICT, WITHOUT ROWID;
