-- What the API keeps whole: a role, a policy, a setting. One with a function goes with it.
CREATE TABLE document (
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    function TEXT,
    body TEXT NOT NULL,
    revision_id TEXT NOT NULL,
    PRIMARY KEY (account, kind, name),
    FOREIGN KEY (account, function) REFERENCES function (account, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX document_function ON document (account, function);
