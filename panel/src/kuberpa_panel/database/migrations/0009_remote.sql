-- Who did what to which object from afar: opened a terminal, took a screen over, read a file.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    username text NOT NULL,
    namespace text NOT NULL,
    robot text NOT NULL,
    action text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_robot ON audit (namespace, robot, at DESC, id DESC);
CREATE INDEX audit_by_time ON audit (at);

-- Pictures of the screen from before an attempt failed. They go with the attempt.
CREATE TABLE recordings (
    uid text NOT NULL,
    token bigint NOT NULL,
    namespace text NOT NULL,
    robot text NOT NULL,
    bytes bigint NOT NULL,
    stored_at timestamptz NOT NULL,
    PRIMARY KEY (uid, token)
);
CREATE INDEX recordings_by_time ON recordings (stored_at);

CREATE TABLE recording_pictures (
    uid text NOT NULL,
    token bigint NOT NULL,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    jpeg bytea NOT NULL,
    PRIMARY KEY (uid, token, number),
    FOREIGN KEY (uid, token) REFERENCES recordings ON DELETE CASCADE
);
ALTER TABLE recording_pictures ALTER COLUMN jpeg SET STORAGE EXTERNAL;
