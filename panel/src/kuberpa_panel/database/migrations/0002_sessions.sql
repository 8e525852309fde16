-- Who is signed in to the pages. The cookie's value is not here, only its SHA-256: a copy of this table opens nothing.

CREATE TABLE sessions (
    digest bytea PRIMARY KEY,
    username text NOT NULL,
    uid text NOT NULL,
    groups text[] NOT NULL,
    extra json NOT NULL,
    created_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE sessions IS 'Browser sessions; the Kubernetes token that opened one is not kept. Deleting a row signs out.';
CREATE INDEX sessions_by_user ON sessions (username);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- Pages find a finished item by its name; names are used again, the latest one counts.
CREATE INDEX activities_by_name ON activities (namespace, name, finished_at DESC);
