"""Start, pause, stop and restart robots on behalf of a viewer, one or many."""

from typing import Any, Final

from pydantic import Field

from kuberpa.client import ApiError
from kuberpa.model import Model, Name
from kuberpa.robot import Robot
from kuberpa.robot_orders import RobotAction
from kuberpa_panel.api.access import require
from kuberpa_panel.api.context import Context
from kuberpa_panel.api.guards import control_rights
from kuberpa_panel.api.problems import Problem, from_api_error
from kuberpa_panel.api.robots import RobotRow, row_of
from kuberpa_panel.api.viewer import Viewer

MANY: Final = 500


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


async def order(  # noqa: PLR0913, PLR0917  who, where, and what
    context: Context, viewer: Viewer, namespace: str, name: str, action: RobotAction, how: RobotOrder
) -> Robot:
    """Ask it of one robot, whose rights are checked already. Raises a Problem in the API server's words."""
    try:
        return await context.services.robots.order(
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


async def order_many(context: Context, viewer: Viewer, wanted: ManyRobots) -> tuple[Answer, ...]:
    """Ask it of each of them, as far as the viewer may; one that is refused does not keep the others from it."""
    answers = []
    for place in dict.fromkeys((each.namespace, each.name) for each in wanted.robots):
        known: dict[str, Any] = {"namespace": place[0], "name": place[1]}
        try:
            for right in control_rights(*place):
                await require(context.services.access, viewer.user, right)
            robot = await order(context, viewer, *place, wanted.action, wanted)
            answers.append(Answer(**known, robot=row_of(robot)))
        except Problem as problem:
            answers.append(Answer(**known, error=problem.detail or problem.title))
    return tuple(answers)
