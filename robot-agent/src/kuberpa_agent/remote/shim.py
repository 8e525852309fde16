"""The shim of a run on a host: `boot.py kuberpa_agent.remote.shim DIRECTORY`, started so that no shell ends it."""

import os
import sys
from pathlib import Path

from kuberpa_agent.platform import selected
from kuberpa_agent.worker import rundir
from kuberpa_agent.worker.spare import supervise


def main() -> None:
    """Supervise the run in the directory named, if no other shim does."""
    directory = Path(sys.argv[1])
    job = rundir.read_json(directory / rundir.JOB)
    if job is None:
        return
    os.chdir(directory.parent.parent)
    selected().become_shim()
    supervise(directory, job, None)


if __name__ == "__main__":
    main()
