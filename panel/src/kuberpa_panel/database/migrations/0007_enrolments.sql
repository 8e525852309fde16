-- Agents that people installed: who invited them, which key they have, and who revoked it. Rows are never deleted: they
-- are the account of who could act as a robot, and when. A code is not here, only its SHA-256.

CREATE TABLE enrolments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace text NOT NULL,
    robot text NOT NULL,
    robot_uid text NOT NULL,
    code_digest bytea NOT NULL UNIQUE,
    invited_by text NOT NULL,
    invited_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    public_key bytea,
    hostname text NOT NULL DEFAULT '',
    version text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    enrolled_at timestamptz,
    ended_at timestamptz,
    ended_by text
);
COMMENT ON COLUMN enrolments.ended_at IS 'When it was revoked, or replaced by another: neither code nor key is worth anything since.';
CREATE INDEX enrolments_by_robot ON enrolments (namespace, robot) WHERE ended_at IS NULL;
