"""Start, pause, stop and restart robots on behalf of a viewer, one or many."""

import asyncio
from dataclasses import replace
from typing import Any, Final

from pydantic import Field

from kuberpa.audit import AuditOutcome
from kuberpa.client import ApiError
from kuberpa.model import Model, Name
from kuberpa.robot import Robot, RobotControl, RobotDesiredState
from kuberpa.robot_orders import RobotAction
from kuberpa_panel.api.access import require
from kuberpa_panel.api.context import Context
from kuberpa_panel.api.guards import control_rights
from kuberpa_panel.api.problems import ForbiddenProblem, Problem, from_api_error
from kuberpa_panel.api.robots import RobotRow, row_of
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.database.audit import Deed
from kuberpa_panel.services.audit import tell

MANY: Final = 1000
AT_ONCE: Final = 16
"""Robots that are asked at a time."""


class RobotOrder(Model):
    """How to do what is asked of a robot."""

    force: bool = Field(False, description="For stop and restart: kill what runs now, instead of letting it end.")
    grace_period_seconds: int | None = Field(
        None, ge=0, le=86_400, description="For stop: how long it may take before it turns into force."
    )
    manual: bool = Field(False, description="For start, pause and stop: set control to Manual as well.")
    uid: str = Field("", max_length=64, description="Only the robot with this UID.")


class RobotPlace(Model):
    """Which robot."""

    namespace: Name
    name: Name
    uid: str = Field("", max_length=64, description="Only the robot with this UID.")


class ManyRobots(RobotOrder):
    """What to ask of several robots."""

    action: RobotAction
    robots: tuple[RobotPlace, ...] = Field(min_length=1, max_length=MANY)


class Answer(Model):
    """What became of it for one of them: its row, or why it was refused."""

    namespace: str
    name: str
    robot: RobotRow | None = None
    error: str = ""
    desired_state_before: RobotDesiredState | None = None
    control_before: RobotControl | None = None

    @property
    def undo(self) -> RobotAction | None:
        """What asks for how it was before; None: it was so already, or it cannot be brought back."""
        if self.robot is None or self.desired_state_before is None:
            return None
        if self.robot.desired_state != self.desired_state_before:
            return _BACK_TO[self.desired_state_before]
        if self.robot.control != self.control_before:
            return RobotAction.MANUAL if self.control_before is RobotControl.MANUAL else RobotAction.AUTO
        return None


_BACK_TO: Final = {
    RobotDesiredState.RUNNING: RobotAction.START,
    RobotDesiredState.PAUSED: RobotAction.PAUSE,
    RobotDesiredState.STOPPED: RobotAction.STOP,
}


async def order(  # noqa: PLR0913, PLR0917  who, where, and what
    context: Context, viewer: Viewer, namespace: str, name: str, action: RobotAction, how: RobotOrder
) -> Robot:
    """Ask it of one robot, whose rights are checked already. Raises a Problem in the API server's words."""
    before = context.services.cache.robots.get(namespace, name)
    tell(old=_wishes(before), new={"force": True} if how.force else None)
    try:
        robot = await context.services.robots.order(
            viewer.user,
            namespace,
            name,
            action,
            force=how.force,
            grace_seconds=how.grace_period_seconds,
            take_over=how.manual,
            uid=how.uid,
        )
    except ApiError as error:
        raise from_api_error(error) from error
    tell(new=(_wishes(robot) or {}) | ({"force": True} if how.force else {}))
    return robot


async def order_many(context: Context, viewer: Viewer, wanted: ManyRobots) -> tuple[Answer, ...]:
    """Ask it of each of them, as far as the viewer may; one that is refused does not keep the others from it."""
    room = asyncio.Semaphore(AT_ONCE)
    deeds: list[Deed] = []

    async def ask(namespace: str, name: str, uid: str) -> Answer:
        known: dict[str, Any] = {"namespace": namespace, "name": name}
        verb = f"{wanted.action} by force" if wanted.force else str(wanted.action)
        deed = Deed(verb, "Robot", namespace, name, viewer.user.name)
        async with room:
            try:
                for right in control_rights(namespace, name):
                    await require(context.services.access, viewer.user, right)
                before = context.services.cache.robots.get(namespace, name)
                how = wanted.model_copy(update={"uid": uid or wanted.uid})
                robot = await order(context, viewer, namespace, name, wanted.action, how)
            except Problem as problem:
                outcome = AuditOutcome.DENIED if isinstance(problem, ForbiddenProblem) else AuditOutcome.FAILED
                deeds.append(replace(deed, outcome=outcome, reason=problem.detail or problem.title))
                return Answer(**known, error=problem.detail or problem.title)
        deeds.append(replace(deed, old=_wishes(before), new=_wishes(robot)))
        if before is not None and before.metadata.uid == robot.metadata.uid:
            known |= {"desired_state_before": before.spec.desired_state, "control_before": before.spec.control}
        return Answer(**known, robot=row_of(robot))

    places = dict.fromkeys((each.namespace, each.name, each.uid) for each in wanted.robots)
    answers = tuple(await asyncio.gather(*(ask(*place) for place in places)))
    await context.services.audit.note(*deeds)
    return answers


def _wishes(robot: Robot | None) -> dict[str, str] | None:
    """What orders change, for the audit trail."""
    return {"desiredState": robot.spec.desired_state, "control": robot.spec.control} if robot is not None else None
