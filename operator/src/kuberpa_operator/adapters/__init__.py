"""One outside thing each: the API server, clocks, the Lease, HTTP, metrics; and in `memory` the API server's fake."""
