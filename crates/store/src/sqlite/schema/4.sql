-- Where functions are reached over plain HTTP. The qualifier is an alias, or empty for $LATEST.
CREATE TABLE function_url (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    url_id TEXT NOT NULL UNIQUE,
    signed INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    cors TEXT,
    created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (account, name, qualifier),
    FOREIGN KEY (account, name) REFERENCES function ON DELETE CASCADE
) STRICT;
