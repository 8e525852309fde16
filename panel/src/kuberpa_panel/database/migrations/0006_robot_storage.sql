-- What robots keep from one activity to the next: one JSON document each.
CREATE TABLE robot_storage (
    namespace text NOT NULL,
    robot text NOT NULL,
    version bigint NOT NULL,
    document text NOT NULL,
    bytes integer NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    PRIMARY KEY (namespace, robot)
);

-- Who changed what of settings and storage: written before the change, completed after it.
CREATE TABLE setting_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    username text NOT NULL,
    address text NOT NULL,
    op text NOT NULL,
    kind text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    field text NOT NULL,
    outcome text NOT NULL,
    old text,
    new text,
    version text NOT NULL DEFAULT ''
);
CREATE INDEX setting_changes_of_object ON setting_changes (kind, namespace, name, id DESC);
CREATE INDEX setting_changes_by_time ON setting_changes (at);
