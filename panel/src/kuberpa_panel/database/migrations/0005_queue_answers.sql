-- What a robot was answered when it ended a lease, so that the same request again is answered the same: after a lost
-- answer the item may already wait for another attempt, be with another robot, or have a successor in another queue.
-- Completions without a successor are not here: the finished item says it all.

CREATE TABLE queue_answers (
    queue_id integer NOT NULL,
    item_id bigint NOT NULL,
    token bigint NOT NULL,
    operation text NOT NULL,
    who text NOT NULL,
    answer text NOT NULL,
    answered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue_id, item_id, token)
);
COMMENT ON TABLE queue_answers IS 'Answers to Complete, Fail, Defer and Release, for a day.';
CREATE INDEX queue_answers_to_forget ON queue_answers (answered_at);

CREATE INDEX queue_items_deadline ON queue_items (queue_id, deadline) WHERE ready AND deadline IS NOT NULL;
