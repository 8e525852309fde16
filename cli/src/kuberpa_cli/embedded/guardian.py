"""Ends what a cluster started when its supervisor is gone, however it went.

`python -m kuberpa_cli.embedded.guardian CLUSTER_ID [FIRST_UID LAST_UID]` waits for the end of its standard input, which
the supervisor holds open; the kernel closes it even after kill -9.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from kuberpa_cli.embedded.processes import CLUSTER_MARKER, Belongs, marked, owned_by, sweep


def tests_for(cluster_id: str, uids: range | None) -> tuple[Belongs, ...]:
    """How the cluster's processes are known: by the marker, and robots' by their user IDs."""
    return (marked(CLUSTER_MARKER, cluster_id), *((owned_by(uids),) if uids else ()))


class Guardian:
    """The supervisor's end: starts the guardian, and lets it finish."""

    def __init__(self, cluster_id: str, uids: range | None, environment: Mapping[str, str]) -> None:
        bounds = [str(uids.start), str(uids.stop)] if uids else []
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-m", "kuberpa_cli.embedded.guardian", cluster_id, *bounds],
            env=dict(environment),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The guardian's PID."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still watches."""
        return self._process.poll() is None

    def finish(self) -> bool:
        """Have it end what is left; whether nothing was left in the end."""
        if self._process.stdin:
            self._process.stdin.close()
        return self._process.wait() == 0


def main(arguments: list[str]) -> int:
    """Wait for the supervisor's end, then sweep; 1 when something resisted."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), 1):
        pass
    uids = range(int(arguments[1]), int(arguments[2])) if len(arguments) > 1 else None
    return 1 if sweep(tests_for(arguments[0], uids)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
