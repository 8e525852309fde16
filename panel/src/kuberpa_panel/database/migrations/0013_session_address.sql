-- People recognise their sessions by when they were opened, and from where.
ALTER TABLE sessions ADD COLUMN address text NOT NULL DEFAULT '';
