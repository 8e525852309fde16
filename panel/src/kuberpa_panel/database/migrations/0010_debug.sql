-- What people tried on the Debug page: the activities themselves are in the archive, here is who asked and exactly when.
CREATE TABLE debug_runs (
    uid text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    username text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    target text NOT NULL
);
CREATE INDEX debug_runs_by_user ON debug_runs (username, number DESC);

-- Forms that people keep under a name: JSON as text, because jsonb cannot hold every string that JSON can.
CREATE TABLE debug_snippets (
    username text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    form text NOT NULL,
    saved_at timestamptz NOT NULL,
    PRIMARY KEY (username, name)
);
