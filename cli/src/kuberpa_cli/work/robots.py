"""What `kuberpa robot` does, once its words are understood."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kuberpa.client import ROBOTS, ApiError, Cluster, NotFoundError
from kuberpa.robot import Goal, Robot, RobotPhase
from kuberpa.robot_lifecycle import REACHED
from kuberpa.robot_orders import RobotAction, patch_of
from kuberpa_cli import clock
from kuberpa_cli.work.connection import Doing, explain
from kuberpa_cli.work.exits import ExitCode, UsageError, WorkError
from kuberpa_cli.work.screen import Screen, columns
from kuberpa_cli.work.targets import no_robot_named, no_robot_selected

AT_ONCE: Final = 16
"""Robots that are asked at a time."""
LOOK_SECONDS: Final = 0.25
LOOKED_AT_A_SECOND: Final = 400
"""Robots that `--wait` reads a second at most: a thousand are looked at every 2.5 s."""
HEADERS: Final = ("NAME", "DESIRED", "PHASE", "CONTROL", "RUNNING", "QUEUED", "NODE", "WHY")
WORDS: Final = {
    RobotAction.START: "is to work",
    RobotAction.PAUSE: "is to pause: what runs goes on to its next checkpoint or its end",
    RobotAction.STOP: "is to stop: what runs goes on to its next checkpoint or its end, and is killed after {grace} s",
    RobotAction.RESTART: "is to restart: what runs goes on to its next checkpoint or its end, and is killed after "
    "{grace} s",
    RobotAction.AUTO: "takes all work",
    RobotAction.MANUAL: "takes only what people ask for",
}
FORCED: Final = {
    RobotAction.STOP: "is to stop now: what runs is killed",
    RobotAction.RESTART: "is to restart now: what runs is killed",
}


@dataclass(frozen=True)
class Order:
    """What to ask of robots."""

    action: RobotAction
    force: bool = False
    grace_seconds: int | None = None
    manual: bool = False

    def said(self, robot: Robot) -> str:
        """What it means for a robot, which has been asked."""
        words = FORCED[self.action] if self.force else WORDS[self.action]
        return f"{robot.metadata.name} {words.format(grace=robot.spec.stop.grace_period_seconds)}"

    def is_done(self, before: Robot, now: Robot) -> bool:
        """Whether it is so. A restart is done when another pod works, or is paused."""
        if now.status.observed_generation < now.metadata.generation:
            return False
        match self.action:
            case RobotAction.START:
                return now.status.phase in REACHED[Goal.RUN]
            case RobotAction.PAUSE:
                return now.status.phase is RobotPhase.PAUSED
            case RobotAction.STOP:
                return now.status.phase is RobotPhase.STOPPED
            case RobotAction.RESTART:
                former, pod = before.status.pod, now.status.pod
                another = former is None or (pod is not None and pod.uid != former.uid)
                return another and now.status.phase in REACHED[Goal.RUN] | REACHED[Goal.PAUSE]
        return True


async def show(cluster: Cluster, namespace: str | None, selector: Mapping[str, str]) -> int:
    """Print robots as a table; of all namespaces when none is given."""
    robots = await _selected(cluster, namespace, selector)
    if not robots:
        raise no_robot_selected(namespace, selector)
    rows = [_row(robot, qualified=namespace is None) for robot in robots]
    Screen().out.write(columns([HEADERS, *rows]))
    return ExitCode.SUCCEEDED


async def order(  # noqa: PLR0913  whom, what, and how to see it through
    cluster: Cluster,
    namespace: str,
    names: Sequence[str],
    selector: Mapping[str, str],
    wanted: Order,
    *,
    wait_seconds: int | None,
) -> int:
    """Ask it of each robot; one that refuses does not keep the others from it."""
    screen = Screen()
    code: int = ExitCode.SUCCEEDED
    asked: list[Robot] = []
    if not names:
        names = [robot.metadata.name for robot in await _selected(cluster, namespace, selector)]
        if not names:
            raise no_robot_selected(namespace, selector)
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str) -> Robot | WorkError:
        async with room:
            try:
                return await _ask(cluster, namespace, name, wanted)
            except WorkError as error:
                return error

    for task in [asyncio.create_task(ask(name)) for name in names]:
        answer = await task
        if isinstance(answer, WorkError):
            screen.note(f"Error: {answer}", "31")
            code = max(code, answer.exit_code)
        else:
            screen.out.write(f"{wanted.said(answer)}\n")
            asked.append(answer)
    if wait_seconds is not None:
        code = max(code, await _wait(cluster, namespace, asked, wanted, screen, wait_seconds))
    return code


async def _ask(cluster: Cluster, namespace: str, name: str, wanted: Order) -> Robot:
    patch = patch_of(
        wanted.action,
        clock.now(),
        force=wanted.force,
        grace_seconds=wanted.grace_seconds,
        take_over=wanted.manual,
    )
    try:
        return Robot.of(await cluster.merge(ROBOTS, namespace, name, patch))
    except NotFoundError:
        raise await no_robot_named(cluster, namespace, name) from None
    except ApiError as error:
        raise explain(error, Doing("patch", ROBOTS, namespace, name), cluster.server) from None


async def _wait(  # noqa: PLR0913, PLR0917  for whom, for what, and for how long
    cluster: Cluster, namespace: str, asked: Iterable[Robot], wanted: Order, screen: Screen, seconds: int
) -> int:
    open_ = {robot.metadata.uid: robot for robot in asked}
    end = asyncio.get_running_loop().time() + seconds
    while open_:
        robots = {robot.metadata.uid: robot for robot in await _selected(cluster, namespace, {})}
        for uid, before in list(open_.items()):
            now = robots.get(uid)
            if now is None:
                screen.note(f"{before.metadata.name} was deleted.")
                del open_[uid]
            elif wanted.is_done(before, now):
                screen.out.write(f"{now.metadata.name}: {now.status.phase}\n")
                del open_[uid]
        if open_ and asyncio.get_running_loop().time() > end:
            for robot in (robots[uid] for uid in open_ if uid in robots):
                screen.note(f"{robot.metadata.name}: still {robot.status.phase}: {robot.status.message}", "31")
            return ExitCode.FAILED
        if open_:
            await asyncio.sleep(max(LOOK_SECONDS, len(robots) / LOOKED_AT_A_SECOND))
    return ExitCode.SUCCEEDED


async def _selected(cluster: Cluster, namespace: str | None, selector: Mapping[str, str]) -> list[Robot]:
    query = {"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())} if selector else {}
    try:
        listing = await cluster.list_all(ROBOTS, namespace, **query)
    except ApiError as error:
        raise explain(error, Doing("list", ROBOTS, namespace or ""), cluster.server) from None
    robots = [Robot.of(body) for body in listing.items]
    return sorted(robots, key=lambda robot: (robot.metadata.namespace, robot.metadata.name))


def _row(robot: Robot, *, qualified: bool) -> tuple[str, ...]:
    meta, status = robot.metadata, robot.status
    return (
        f"{meta.namespace}/{meta.name}" if qualified else meta.name,
        robot.spec.desired_state.value,
        status.phase.value,
        robot.spec.control.value,
        str(status.activities.running),
        str(status.activities.queued),
        (status.pod.node if status.pod else "") or "-",
        status.message,
    )


def check_choice(names: Sequence[str], selector: Mapping[str, str]) -> None:
    """Raises UsageError unless robots are named, or selected, but not both."""
    if bool(names) == bool(selector):
        raise UsageError("Name robots, or select them with -l KEY=VALUE; not both and not neither.")
