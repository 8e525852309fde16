-- The last calls of the robot that changed its document: an agent asks again what it had no answer to.
ALTER TABLE robot_storage ADD COLUMN calls text[] NOT NULL DEFAULT '{}';
