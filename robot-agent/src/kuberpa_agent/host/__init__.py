"""The agent as supervisor of a robot on a Windows host: what it runs is on the host, reached over WinRM.

WinRM is a short, repeatable control channel and never a job's lifetime. The run directory on the host is the truth;
the one in the supervisor's state directory mirrors it, so that everything above it (`executor`, `runs`, the session
with the panel) works as for runs beside the agent.

    executor ── local run directory ── mirror ── channel (pywinrm) ──▶ remote.calls on the host ── run directory, shim
"""
