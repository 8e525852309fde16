"""Definitions that take more than the right to run on a robot."""

from typing import Final

DEFINITION_RIGHTS: Final = {
    "host.restart": "host",
    "input.send": "control",
    "session.lock": "session",
    "session.logoff": "session",
}
"""Subresource of robots on which whoever runs one needs the verb create. The policy kuberpa-run has the same table."""
