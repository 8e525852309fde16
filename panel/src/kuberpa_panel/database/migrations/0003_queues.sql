-- Work queues. What waits or is leased is in queue_items, what has ended in queue_finished: so a queue with ten million
-- finished items takes as fast as an empty one.

CREATE TABLE queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    ordering text NOT NULL DEFAULT '',
    UNIQUE (namespace, name)
);
COMMENT ON COLUMN queues.ordering IS 'The ordering by which rank was last computed for every item.';

CREATE SEQUENCE queue_item_ids;

CREATE TABLE queue_items (
    queue_id integer NOT NULL,
    id bigint NOT NULL DEFAULT nextval('queue_item_ids'),
    state text NOT NULL,
    ready boolean NOT NULL,
    rank bigint NOT NULL,
    due_at timestamptz,
    token bigint NOT NULL DEFAULT 0,
    holder text NOT NULL DEFAULT '',
    leased_by text NOT NULL DEFAULT '',
    take_key text NOT NULL DEFAULT '',
    priority integer NOT NULL DEFAULT 0,
    deadline timestamptz,
    reference text NOT NULL DEFAULT '',
    payload text NOT NULL,
    output text,
    reason text NOT NULL DEFAULT '',
    error_class text NOT NULL DEFAULT '',
    error text,
    progress text,
    started integer NOT NULL DEFAULT 0,
    application integer NOT NULL DEFAULT 0,
    business integer NOT NULL DEFAULT 0,
    abandoned integer NOT NULL DEFAULT 0,
    lineage text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    started_at timestamptz,
    history text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (queue_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
COMMENT ON TABLE queue_items IS 'Items that wait or are leased. payload is JSON text in ASCII, history one JSON array an entry.';
COMMENT ON COLUMN queue_items.rank IS 'The queue''s ordering as a number, the smaller the earlier: one index serves every ordering.';
COMMENT ON COLUMN queue_items.due_at IS 'When a lease expires or a waiting item becomes ready.';
CREATE INDEX queue_items_ready ON queue_items (queue_id, rank, id) WHERE ready;
CREATE INDEX queue_items_due ON queue_items (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX queue_items_reference ON queue_items (queue_id, reference text_pattern_ops) WHERE reference <> '';
CREATE INDEX queue_items_take_key ON queue_items (queue_id, take_key) WHERE take_key <> '';

CREATE TABLE queue_finished (
    LIKE queue_items,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue_id, id)
);
COMMENT ON TABLE queue_finished IS 'Items that ended, until their retention is over.';
CREATE INDEX queue_finished_by_time ON queue_finished (queue_id, state, finished_at);
CREATE INDEX queue_finished_unwell ON queue_finished (queue_id, id) WHERE state <> 'Succeeded';
CREATE INDEX queue_finished_reference ON queue_finished (queue_id, reference text_pattern_ops) WHERE reference <> '';

CREATE TABLE queue_keys (
    queue_id integer NOT NULL,
    kind "char" NOT NULL,
    key text NOT NULL,
    item_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue_id, kind, key)
);
COMMENT ON TABLE queue_keys IS 'What may be used once: r a reference, i an idempotency key.';
CREATE INDEX queue_keys_to_forget ON queue_keys (created_at) WHERE kind = 'i';

CREATE TABLE queue_deltas (queue_id integer NOT NULL, kind text NOT NULL, n bigint NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE queue_deltas IS 'Changes of the counts since they were last added to queue_totals; written by triggers alone.';

CREATE TABLE queue_totals (
    queue_id integer NOT NULL,
    kind text NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (queue_id, kind)
);

CREATE TABLE queue_forecasts (
    queue_id integer NOT NULL,
    made_at timestamptz NOT NULL,
    last_id bigint NOT NULL,
    p50_at timestamptz NOT NULL,
    p90_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (queue_id, made_at)
);
COMMENT ON TABLE queue_forecasts IS 'Forecasts and when the backlog up to last_id was finished in truth.';

CREATE FUNCTION queue_entry(who text, before text, after text, why text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT json_build_array(clock_timestamp(), who, before, after, why)::text
$$;

CREATE FUNCTION queue_note(history text[], entry text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cardinality(history) < 200 THEN history || entry
                ELSE history[cardinality(history) - 198:] || entry END
$$;
COMMENT ON FUNCTION queue_note IS 'The history with one more entry, and at most 200 of them.';

CREATE FUNCTION queue_kind(state text, ready boolean, error_class text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN state = 'Leased' THEN 'leased'
                WHEN state IN ('New', 'Deferred', 'Retried', 'Abandoned')
                    THEN CASE WHEN ready THEN 'ready' ELSE 'deferred' END
                WHEN state = 'Failed' AND error_class = 'Business' THEN 'failed-business'
                WHEN state = 'Failed' THEN 'failed-application'
                WHEN state = 'DeadLettered' THEN 'dead-lettered'
                ELSE lower(state) END
$$;

CREATE FUNCTION queue_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO queue_deltas
            SELECT queue_id, queue_kind(state, ready, error_class), count(*) FROM came GROUP BY 1, 2;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO queue_deltas
            SELECT queue_id, queue_kind(state, ready, error_class), -count(*) FROM went GROUP BY 1, 2;
    ELSE
        INSERT INTO queue_deltas
            SELECT queue_id, kind, sum(n) FROM (
                SELECT queue_id, queue_kind(state, ready, error_class) AS kind, 1 AS n FROM came
                UNION ALL
                SELECT queue_id, queue_kind(state, ready, error_class), -1 FROM went) AS changes
            GROUP BY 1, 2 HAVING sum(n) <> 0;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER queue_items_came AFTER INSERT ON queue_items
    REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION queue_count();
CREATE TRIGGER queue_items_went AFTER DELETE ON queue_items
    REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION queue_count();
CREATE TRIGGER queue_items_moved AFTER UPDATE ON queue_items
    REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION queue_count();
CREATE TRIGGER queue_finished_came AFTER INSERT ON queue_finished
    REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION queue_count();
CREATE TRIGGER queue_finished_went AFTER DELETE ON queue_finished
    REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION queue_count();
CREATE TRIGGER queue_finished_moved AFTER UPDATE ON queue_finished
    REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION queue_count();
