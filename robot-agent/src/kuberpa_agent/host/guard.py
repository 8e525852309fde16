"""Keeps a wrong password from locking the account: few attempts, far apart, and then none until something changes."""

import hashlib
import time
from pathlib import Path
from typing import Any, Final

from kuberpa.host import HostReason
from kuberpa_agent.host.errors import HostError
from kuberpa_agent.worker import rundir

PAUSES: Final = (60.0, 600.0)
"""Seconds before the second and the third attempt; there is no fourth."""


class Guard:
    """Counts refusals of the present credentials. The count outlives the process, or a restart would begin anew."""

    def __init__(self, file: Path, credentials: Path) -> None:
        self._file = file
        self._credentials = credentials

    def check(self, now: float) -> None:
        """Raise HostError while no attempt may be made. `now`: wall clock."""
        refused = self._refusals()
        if not refused:
            return
        if len(refused) > len(PAUSES):
            raise HostError(
                HostReason.CREDENTIALS_REFUSED,
                f"the host refused the credentials {len(refused)} times; no more is tried, so that the account is not "
                "locked, until the Secret or the RobotHost changes",
            )
        wait = refused[-1] + PAUSES[len(refused) - 1] - now
        if wait > 0:
            raise HostError(
                HostReason.CREDENTIALS_REFUSED,
                f"the host refused the credentials; attempt {len(refused) + 1} of {len(PAUSES) + 1} is made "
                f"{PAUSES[len(refused) - 1]:.0f} s after the last one, or when the Secret changes",
            )

    def refused(self, now: float) -> None:
        """The host did not take the credentials."""
        rundir.write_json(self._file, {"of": self._digest(), "at": [*self._refusals(), now]}, durable=True)

    def accepted(self) -> None:
        """It did."""
        if self._file.exists():
            self._file.unlink(missing_ok=True)

    def _refusals(self) -> list[float]:
        kept: dict[str, Any] = rundir.read_json(self._file) or {}
        return list(kept["at"]) if kept.get("of") == self._digest() else []

    def _digest(self) -> str:
        """Tells present credentials from others, without saying anything of them."""
        digest = hashlib.sha256()
        for path in sorted(self._credentials.iterdir()) if self._credentials.is_dir() else []:
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()


def wall_clock() -> float:
    """The edge that reads it."""
    return time.time()
