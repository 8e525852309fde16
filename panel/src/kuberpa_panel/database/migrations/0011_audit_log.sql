-- The audit trail: one table that only grows, each row with the hash of the one before, whoever writes it.

CREATE TABLE audit_log (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    username text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    source text NOT NULL,
    verb text NOT NULL,
    kind text NOT NULL DEFAULT '',
    namespace text NOT NULL DEFAULT '',
    name text NOT NULL DEFAULT '',
    field text NOT NULL DEFAULT '',
    outcome text NOT NULL,
    reason text NOT NULL DEFAULT '',
    old text,
    new text,
    request text NOT NULL DEFAULT '',
    refers bigint,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('simple',
        left(username || ' ' || verb || ' ' || kind || ' ' || namespace || ' ' || name || ' ' || field || ' ' || reason
             || ' ' || coalesce(old, '') || ' ' || coalesce(new, '') || ' ' || address || ' ' || request, 100000))) STORED
);
COMMENT ON TABLE audit_log IS 'Append-only. seq, previous and hash are set by a trigger, whatever is inserted; see kuberpa.audit.';
CREATE INDEX audit_log_by_object ON audit_log (kind, namespace, name, seq DESC);
CREATE INDEX audit_log_by_namespace ON audit_log (namespace, seq DESC);
CREATE INDEX audit_log_by_user ON audit_log (username, seq DESC);
CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX audit_log_ends ON audit_log (refers) WHERE refers IS NOT NULL;
CREATE INDEX audit_log_by_words ON audit_log USING gin (words) WITH (fastupdate = off);

CREATE TABLE audit_seals (
    seq bigint PRIMARY KEY,
    hash bytea NOT NULL,
    entries bigint NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit_seals IS 'Up to where entries may be deleted, because retention has ended; the rest is checked from the last seal on.';

CREATE FUNCTION audit_part(part text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(octet_length(convert_to(part, 'UTF8')) || ':' || part, 'UTF8')
$$;

CREATE FUNCTION audit_digest(entry audit_log) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(entry.previous
        || audit_part(entry.seq::text)
        || audit_part(to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || audit_part(entry.username) || audit_part(entry.address) || audit_part(entry.source)
        || audit_part(entry.verb) || audit_part(entry.kind) || audit_part(entry.namespace) || audit_part(entry.name)
        || audit_part(entry.field) || audit_part(entry.outcome) || audit_part(entry.reason)
        || audit_part(CASE WHEN entry.old IS NULL THEN '' ELSE '=' || entry.old END)
        || audit_part(CASE WHEN entry.new IS NULL THEN '' ELSE '=' || entry.new END)
        || audit_part(entry.request) || audit_part(coalesce(entry.refers::text, '')))
$$;
COMMENT ON FUNCTION audit_digest IS 'As AuditEntry.computed of kuberpa.audit.';

CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    latest record;
BEGIN
    PERFORM pg_advisory_xact_lock(7741253906220843281);  -- one after the other, until the transaction ends
    SELECT seq, hash, at INTO latest FROM audit_log ORDER BY seq DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT seq, hash, NULL::timestamptz AS at INTO latest FROM audit_seals ORDER BY seq DESC LIMIT 1;
    END IF;
    NEW.seq := coalesce(latest.seq, 0) + 1;
    NEW.previous := coalesce(latest.hash, decode(repeat('00', 32), 'hex'));
    NEW.at := greatest(latest.at, least(coalesce(NEW.at, clock_timestamp()), clock_timestamp()));
    NEW.hash := audit_digest(NEW);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION audit_chain IS 'Times never go back, whatever a clock does.';

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_log' THEN
        IF OLD.seq <= (SELECT coalesce(max(seq), 0) FROM audit_seals) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% only grows: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION audit_may_seal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sealed record;
BEGIN
    SELECT hash, at INTO sealed FROM audit_log WHERE seq = NEW.seq;
    IF NOT FOUND OR sealed.hash <> NEW.hash OR sealed.at > statement_timestamp() - interval '30 days' THEN
        RAISE EXCEPTION 'a seal names an entry that is 30 days old, and its hash' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.entries := NEW.seq - (SELECT coalesce(max(seq), 0) FROM audit_seals);
    NEW.sealed_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER audit_log_chain BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_chain();
CREATE TRIGGER audit_log_refuse BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_log_stays BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_seals_check BEFORE INSERT ON audit_seals FOR EACH ROW EXECUTE FUNCTION audit_may_seal();
CREATE TRIGGER audit_seals_refuse BEFORE UPDATE OR DELETE ON audit_seals FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_seals_stay BEFORE TRUNCATE ON audit_seals FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- What two tables held until now.
INSERT INTO audit_log (at, username, address, source, verb, kind, namespace, name, field, outcome, reason, old, new)
    SELECT * FROM (
        SELECT at, username, '', 'panel', action, 'Robot', namespace, robot, '', 'Allowed', '', NULL::text,
               CASE WHEN detail = '{}' THEN NULL ELSE detail::text END
            FROM audit
        UNION ALL
        SELECT at, username, address, 'panel', op, kind, namespace, name, field,
               CASE WHEN outcome = 'Done' THEN 'Allowed' WHEN outcome = 'Asked' THEN 'Asked' ELSE 'Failed' END,
               CASE WHEN outcome IN ('Done', 'Asked') THEN '' ELSE outcome END, old, new
            FROM setting_changes
    ) AS former ORDER BY 1;
DROP TABLE audit;
DROP TABLE setting_changes;

-- Objects as the panel's witness saw them last: what people change of them through kubectl is told from this.
CREATE TABLE audit_objects (
    uid text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    content json NOT NULL
);
