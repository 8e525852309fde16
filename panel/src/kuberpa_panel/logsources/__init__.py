"""What writes to the log besides robots: this process, the audit trail, Kubernetes' Events, the operator."""
