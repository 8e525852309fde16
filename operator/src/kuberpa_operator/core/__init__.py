"""What the operator decides, and nothing that it does: no I/O, no clock, no framework."""
