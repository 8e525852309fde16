"""Proves who an enrolled agent is, in a process of its own for each connection.

So the key is never in the memory of the process that runs for months, nor are the megabytes of cryptography in it.
"""

import json
import os
import subprocess
import sys
from typing import Final

from kuberpa_agent.backoff import Cause
from kuberpa_agent.connection import ConnectError
from kuberpa_agent.home import Home

_SECONDS: Final = 60.0


def credential(place: Home) -> str:
    """The bearer token of the next connection. Raises ConnectError."""
    command = [sys.executable, "-m", "kuberpa_agent.enrolment", str(place.folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW
    try:
        done = subprocess.run(  # noqa: S603  this package's own module
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
            creationflags=flags,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConnectError(Cause.UNREACHABLE, f"the key cannot be used: {error}") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        words = done.stderr.strip()[-500:]
        raise ConnectError(Cause.UNREACHABLE, f"the key cannot be used: {words or done.returncode}") from None
    if "credential" in answer:
        return str(answer["credential"])
    raise ConnectError(Cause(answer["cause"]), str(answer["message"]))
