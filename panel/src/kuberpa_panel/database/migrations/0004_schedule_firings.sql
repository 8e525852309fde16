-- What became of every instant of every Schedule, as Schedule.status.firings said before the operator dropped it.
-- Entries that were put together while nothing could be stored stand for first..sequence.
CREATE TABLE schedule_firings (
    schedule_uid text NOT NULL,
    first bigint NOT NULL,
    sequence bigint NOT NULL,
    namespace text NOT NULL,
    schedule text NOT NULL,
    time timestamptz NOT NULL,
    until timestamptz,
    count bigint NOT NULL,
    cause text NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    item text NOT NULL,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (schedule_uid, first, sequence)
);
CREATE INDEX schedule_firings_latest ON schedule_firings (namespace, schedule, decided_at DESC, schedule_uid DESC, sequence DESC, first DESC);
