"""A robot outside of the cluster: the agent that is enrolled stands where others have their pod.

It comes with the enrolment and goes with it. While the robot is to be stopped or restarted it goes too, as soon as the
agent says that nothing runs any more; that is what Stopped means of such a robot, and it is said only while the agent
is there to say so.
"""

from typing import Final

from kuberpa import names
from kuberpa.robot import Robot, RobotState
from kuberpa.robot_lifecycle import goal_of
from kuberpa_operator.core.pod import Pod

ENDING: Final = frozenset({RobotState.STOPPING, RobotState.KILLING})


def place(robot: Robot, *, server_fresh: bool, busy: bool) -> Pod | None:
    """What stands for the robot's pod. `busy`: something of the robot's is not over yet."""
    meta, enrolment, former = robot.metadata, robot.status.enrolment, robot.status.pod
    if enrolment is None:
        return None
    answered = former is not None and former.uid == enrolment.id
    restarted_at = (
        former.restarted_at if former and answered else meta.annotations.get(names.ANNOTATION_RESTARTED_AT, "")
    )
    if goal_of(robot, restarted_at).ends_pod and server_fresh and not busy and _has_ended(robot, enrolment.id):
        return None
    return Pod(
        namespace=meta.namespace,
        name="",
        uid=enrolment.id,
        robot=meta.name,
        owner_uid=meta.uid,
        restarted_at=restarted_at,
        node=enrolment.hostname,
        phase="Running",
    )


def _has_ended(robot: Robot, identity: str) -> bool:
    agent = robot.status.agent
    if agent is None or agent.identity != identity or not agent.connected:
        return False
    said = agent.control
    return said.settled and said.state in ENDING and said.generation == robot.metadata.generation
