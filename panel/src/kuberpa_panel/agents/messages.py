"""What the panel tells an agent, made from resources."""

from kuberpa import wire
from kuberpa.activity import ActivityItem
from kuberpa.robot import Robot, RobotState
from kuberpa.robot_lifecycle import is_leaving, told


def settings_of(robot: Robot, lost_after_seconds: float, mask_patterns: tuple[str, ...] = ()) -> wire.Settings:
    """What the robot's spec wants of its agent."""
    state = told(robot)
    return wire.Settings(
        concurrency=robot.spec.concurrency,
        async_concurrency=robot.spec.async_concurrency,
        packages=robot.spec.packages,
        package_index=robot.spec.package_index,
        lost_after_seconds=lost_after_seconds,
        state=state,
        mask_patterns=mask_patterns,
        session=robot.spec.session,
        debug=robot.spec.debug.enabled,
        leaving=is_leaving(robot),
        # what works as usual need not hear of every change of the spec
        generation=0 if state is RobotState.RUNNING else robot.metadata.generation,
    )


def is_owned_by_robot(item: ActivityItem) -> bool:
    """Whether the operator made the item for a Robot: the admission policy lets nobody else say so."""
    return any(ref.kind == "Robot" and ref.controller for ref in item.metadata.owner_references)


def start_of(item: ActivityItem) -> wire.Start:
    """The Start of an item's present assignment."""
    spec, status = item.spec, item.status
    return wire.Start(
        uid=item.metadata.uid,
        token=status.lease.token,
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        attempt=status.attempt,
        definition=spec.definition,
        input=spec.input,
        inject=spec.inject,
        async_=spec.async_,
        program=is_owned_by_robot(item),
        timeout_seconds=spec.timeout_seconds,
        grace_period_seconds=spec.stop.grace_period_seconds,
        retryable=spec.retry.limit > 0,
        needs_session=spec.needs_session,
        debug=spec.debug,
    )
