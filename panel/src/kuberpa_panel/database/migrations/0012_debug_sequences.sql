-- Lists of steps that people run one by one: body has the steps as forms and the activities that ran them.
CREATE TABLE debug_sequences (
    username text NOT NULL,
    name text NOT NULL,
    body text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (username, name)
);
