"""What runs on a Windows host that a supervisor works over WinRM: short, repeatable calls, and the shims of runs.

Like `worker` it uses the standard library alone: `kuberpa_agent.host.bundle` packs it, and any Python 3.11 runs it.
Each call is a process: a JSON document on stdin, one on stdout. Nothing is kept but files, so a call may be repeated,
cut off at any point, or arrive late.

    %ProgramData%/kuberpa/agent/<hash>/      the bundle; boot.py runs it
    %ProgramData%/kuberpa/robots/<uid>/      owner.json, lease.json, robot-state.json, files, secrets
    %ProgramData%/kuberpa/robots/<uid>/runs/<uid>-<token>/      see worker.rundir
"""
