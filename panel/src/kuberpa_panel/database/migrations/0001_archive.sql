-- The archive: what became of activities, and what they wrote.

CREATE TABLE activities (
    uid text COLLATE "C" PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    robot text NOT NULL,
    requested_by text NOT NULL,
    schedule text NOT NULL,
    phase text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    attempts integer NOT NULL,
    token bigint NOT NULL,
    spec json NOT NULL,
    created_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz NOT NULL
);
COMMENT ON TABLE activities IS 'One row for each ActivityItem that ended.';
CREATE INDEX activities_by_time ON activities (finished_at DESC, uid DESC);
CREATE INDEX activities_by_namespace ON activities (namespace, finished_at DESC, uid DESC);
CREATE INDEX activities_by_robot ON activities (namespace, robot, finished_at DESC, uid DESC);

CREATE TABLE activity_attempts (
    uid text COLLATE "C" NOT NULL,
    token bigint NOT NULL,
    attempt integer NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    robot text NOT NULL,
    holder text NOT NULL,
    requested_by text NOT NULL,
    phase text NOT NULL,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    result bytea,
    error json,
    exit_code bigint,
    survivors bigint[] NOT NULL DEFAULT '{}',
    last_seq bigint NOT NULL DEFAULT 0,
    late boolean NOT NULL DEFAULT false,
    assigned_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (uid, token)
);
COMMENT ON TABLE activity_attempts IS 'One row for each attempt that a robot was given; result is JSON text in UTF-8.';
CREATE INDEX activity_attempts_by_robot ON activity_attempts (namespace, robot, assigned_at DESC);

CREATE TABLE log_lines (
    uid text COLLATE "C" NOT NULL,
    token bigint NOT NULL,
    seq bigint NOT NULL,
    time timestamptz NOT NULL,
    stream text NOT NULL,
    level text NOT NULL,
    text text NOT NULL,
    continues boolean NOT NULL,
    PRIMARY KEY (uid, token, seq)
);
COMMENT ON TABLE log_lines IS 'What attempts wrote, by sequence number; times are on the panel''s clock.';

CREATE TABLE activity_progress (
    uid text COLLATE "C" NOT NULL,
    token bigint NOT NULL,
    fraction double precision,
    message text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (uid, token)
);

CREATE TABLE definition_sets (
    fingerprint text PRIMARY KEY,
    definitions json NOT NULL
);
COMMENT ON TABLE definition_sets IS 'What agents can run, by SHA-256 of the content: a fleet shares one row.';

CREATE TABLE robot_definitions (
    namespace text NOT NULL,
    robot text NOT NULL,
    fingerprint text NOT NULL REFERENCES definition_sets,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, robot)
);
