"""What runs in worker processes: fork server, shim, payload. Standard library only."""
