"""Definitions that take more than the right to run on a robot."""

from typing import Final

from kuberpa.robot_orders import RobotAction

ROBOT_ACTIONS: Final = {f"robot.{action}": action for action in RobotAction}
"""Carried out by the operator on the Robot that the item names; whoever runs one needs the verb patch on it too."""

DEFINITION_RIGHTS: Final = {
    "host.restart": "host",
    "input.send": "control",
    "session.lock": "session",
    "session.logoff": "session",
    **dict.fromkeys(ROBOT_ACTIONS, "stop"),
}
"""Subresource of robots on which whoever runs one needs the verb create. The policy kuberpa-run has the same table."""
