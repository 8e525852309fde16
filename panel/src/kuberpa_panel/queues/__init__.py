"""Work queues: rows in PostgreSQL under the rules of a WorkQueue. `interface.Queues` is what others call."""
