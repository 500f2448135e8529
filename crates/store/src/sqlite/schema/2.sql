-- What answers while the newest revision is being made ready, and when it cannot be: JSON, and its archive.
ALTER TABLE function ADD COLUMN serving TEXT;
ALTER TABLE function ADD COLUMN serving_digest BLOB CHECK (serving_digest IS NULL OR length(serving_digest) = 32);

-- Outlives the function: a version's number is never given out again.
CREATE TABLE version_counter (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE version (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    revision_id TEXT NOT NULL,
    code_digest BLOB NOT NULL CHECK (length(code_digest) = 32),
    code_size INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    config TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT NOT NULL,
    PRIMARY KEY (account, name, number),
    FOREIGN KEY (account, name) REFERENCES function ON DELETE CASCADE
) STRICT;

CREATE INDEX version_code ON version (code_digest);
CREATE INDEX version_usage ON version (account, code_size);

-- The version is null where the alias means $LATEST.
CREATE TABLE alias (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    version INTEGER,
    additional_version INTEGER,
    additional_weight REAL,
    description TEXT NOT NULL,
    revision_id TEXT NOT NULL,
    PRIMARY KEY (account, name, alias),
    FOREIGN KEY (account, name) REFERENCES function ON DELETE CASCADE,
    FOREIGN KEY (account, name, version) REFERENCES version,
    FOREIGN KEY (account, name, additional_version) REFERENCES version
) STRICT, WITHOUT ROWID;

CREATE INDEX alias_version ON alias (account, name, version);
CREATE INDEX alias_additional_version ON alias (account, name, additional_version);

-- The qualifier is a version's number or an alias; no alias is a number.
CREATE TABLE provisioned (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    count INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (account, name, qualifier),
    FOREIGN KEY (account, name) REFERENCES function ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
