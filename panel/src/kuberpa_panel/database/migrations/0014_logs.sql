-- One log for everything: what attempts wrote, what agents, operator and panel say, deeds, Events of kuberpa's objects.
-- A partition has one day of one class of levels, so that each class has a retention of its own and is dropped whole.

CREATE SEQUENCE log_ids;
COMMENT ON SEQUENCE log_ids IS 'Taken under the lock of the log''s writers: who commits later has the larger numbers.';

CREATE TABLE logs (
    id bigint NOT NULL DEFAULT nextval('log_ids'),
    time timestamptz NOT NULL,
    namespace text NOT NULL,
    robot text NOT NULL,
    source text NOT NULL,
    level text NOT NULL,
    stream text NOT NULL,
    activity text NOT NULL,
    definition text NOT NULL,
    origin text NOT NULL,
    uid text COLLATE "C" NOT NULL,
    token bigint NOT NULL,
    seq bigint NOT NULL,
    continues boolean NOT NULL,
    text text NOT NULL,
    -- words without punctuation, whatever PostgreSQL takes for a host, a file or a number; and fields with a colon,
    -- which no word has
    words tsvector NOT NULL GENERATED ALWAYS AS (
        to_tsvector('simple', lower(
            translate(text, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~«»„“”–—…№', '                                         ')
            COLLATE "pg_c_utf8"))
        || array_to_tsvector(ARRAY['n:' || namespace, 'r:' || namespace || '/' || robot, 's:' || source,
            'a:' || namespace || '/' || activity, 'd:' || definition])
    ) STORED
) PARTITION BY LIST (level);
COMMENT ON TABLE logs IS 'Lines of all sources; times are on the panel''s clock, id is the order in which they came.';
CREATE INDEX logs_by_time ON logs (time, id);
CREATE INDEX logs_by_id ON logs (id);
CREATE INDEX logs_by_stream ON logs (uid, token, seq);
CREATE INDEX logs_by_words ON logs USING gin (words) WITH (gin_pending_list_limit = 512);

CREATE TABLE logs_debug PARTITION OF logs FOR VALUES IN ('DEBUG') PARTITION BY RANGE (time);
CREATE TABLE logs_info PARTITION OF logs FOR VALUES IN ('INFO') PARTITION BY RANGE (time);
CREATE TABLE logs_warning PARTITION OF logs FOR VALUES IN ('WARNING') PARTITION BY RANGE (time);
CREATE TABLE logs_error PARTITION OF logs FOR VALUES IN ('ERROR', 'CRITICAL') PARTITION BY RANGE (time);

CREATE FUNCTION make_log_day(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    class text;
    part text;
BEGIN
    FOREACH class IN ARRAY ARRAY['debug', 'info', 'warning', 'error'] LOOP
        part := 'logs_' || class || '_' || to_char(day, 'YYYYMMDD');
        IF to_regclass(part) IS NULL THEN
            -- attached, because making one in its place would wait for everybody who reads
            EXECUTE format('CREATE TABLE %I (LIKE logs INCLUDING ALL)', part);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', 'logs_' || class, part,
                day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION make_log_day IS 'Makes the partitions of a day, under the lock of the log''s writers.';

CREATE TABLE log_streams (
    uid text COLLATE "C" NOT NULL,
    token bigint NOT NULL,
    seq bigint NOT NULL,
    lines bigint NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (uid, token)
);
COMMENT ON TABLE log_streams IS 'Up to where the lines of an attempt, or of a process, are stored, how many, and between when.';
CREATE INDEX log_streams_by_time ON log_streams (until);

CREATE TABLE log_counts (
    minute timestamptz NOT NULL,
    namespace text NOT NULL,
    source text NOT NULL,
    level text NOT NULL,
    lines bigint NOT NULL,
    PRIMARY KEY (minute, namespace, source, level)
);
COMMENT ON TABLE log_counts IS 'Lines by minute, for histograms.';

SELECT make_log_day(day::date) FROM (SELECT DISTINCT (time AT TIME ZONE 'UTC')::date AS day FROM log_lines) AS days;
INSERT INTO logs (time, namespace, robot, source, level, stream, activity, definition, origin, uid, token, seq, continues, text)
    SELECT l.time, coalesce(a.namespace, ''), coalesce(a.robot, ''), 'activity', l.level, l.stream, coalesce(a.name, ''),
        coalesce(a.definition, ''), '', l.uid, l.token, l.seq, l.continues, l.text
    FROM log_lines l LEFT JOIN activity_attempts a USING (uid, token) ORDER BY l.time, l.uid, l.token, l.seq;
INSERT INTO log_streams SELECT uid, token, max(seq), count(*), min(time), max(time) FROM logs GROUP BY uid, token;
INSERT INTO log_counts SELECT date_trunc('minute', time), namespace, source, level, count(*) FROM logs GROUP BY 1, 2, 3, 4;
DROP TABLE log_lines;
