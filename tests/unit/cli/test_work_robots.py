"""What `kuberpa robot` says and when it is done, without a cluster."""

import asyncio
from typing import Any

import pytest

from kuberpa.client import ForbiddenError
from kuberpa.robot import Robot
from kuberpa.robot_orders import RobotAction
from kuberpa_cli.work.arguments import robot_name
from kuberpa_cli.work.exits import UsageError
from kuberpa_cli.work.robots import Order, check_choice, order
from kuberpa_cli.work.screen import columns


def robot(phase: str, *, pod: str = "a", generation: int = 1, observed: int = 1, **spec: Any) -> Robot:
    return Robot.of(
        {
            "metadata": {"name": "clerk", "uid": "u", "generation": generation},
            "spec": {"runtime": {"linuxPod": {}}, **spec},
            "status": {"phase": phase, "observedGeneration": observed, "pod": {"name": "p", "uid": pod}},
        }
    )


@pytest.mark.parametrize(
    ("action", "phase", "done"),
    [
        (RobotAction.START, "Idle", True),
        (RobotAction.START, "Busy", True),
        (RobotAction.START, "Starting", False),
        (RobotAction.PAUSE, "Pausing", False),
        (RobotAction.PAUSE, "Paused", True),
        (RobotAction.STOP, "Stopping", False),
        (RobotAction.STOP, "Stopped", True),
        (RobotAction.RESTART, "Idle", False),
        (RobotAction.AUTO, "Busy", True),
    ],
)
def test_an_order_is_done_when_the_robot_says_so(action: RobotAction, phase: str, done: bool) -> None:
    assert Order(action).is_done(robot("Idle"), robot(phase)) is done


def test_a_status_that_has_not_seen_the_wish_says_nothing_about_it() -> None:
    assert not Order(RobotAction.PAUSE).is_done(robot("Paused"), robot("Paused", generation=2))


def test_a_restart_is_done_when_another_pod_works() -> None:
    wanted = Order(RobotAction.RESTART)
    assert not wanted.is_done(robot("Idle"), robot("Starting", pod="b"))
    assert wanted.is_done(robot("Idle"), robot("Idle", pod="b"))


def test_an_order_says_what_it_means() -> None:
    stopping = robot("Idle", stop={"gracePeriodSeconds": 90})
    assert "is killed after 90 s" in Order(RobotAction.STOP).said(stopping)
    assert Order(RobotAction.STOP, force=True).said(stopping) == "clerk is to stop now: what runs is killed"


class CountingCluster:
    """Takes patches of robots, all but one's, and counts how many come at once."""

    server = "https://cluster"

    def __init__(self) -> None:
        self.now = self.most = 0

    async def merge(self, _: Any, namespace: str, name: str, patch: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if name == "r03":
            raise ForbiddenError("robots 'r03' is forbidden", status=403)
        return {"metadata": {"name": name}, "spec": {"runtime": {"linuxPod": {}}, **patch["spec"]}}


async def test_many_are_asked_side_by_side_told_in_order_and_one_that_refuses_keeps_nobody_from_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster, names = CountingCluster(), [f"r{number:02}" for number in range(40)]
    wanted = Order(RobotAction.MANUAL)
    code = await order(cluster, "default", names, {}, wanted, wait_seconds=None)  # type: ignore[arg-type]
    told, errors = capsys.readouterr()
    assert [line.split()[0] for line in told.splitlines()] == [name for name in names if name != "r03"]
    assert "r03" in errors
    assert (code != 0, cluster.most) == (True, 16)


@pytest.mark.parametrize(("names", "selector"), [([], {}), (["a"], {"team": "x"})])
def test_robots_are_named_or_selected(names: list[str], selector: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="not both and not neither"):
        check_choice(names, selector)


def test_a_robot_may_be_named_as_kubectl_does() -> None:
    assert [robot_name(text) for text in ("a", "robot/a", "robots/a", "robot.kuberpa.dev/a")] == ["a"] * 4
    with pytest.raises(UsageError, match="takes robots"):
        robot_name("pod/a")


def test_a_table_shows_control_characters_and_breaks_no_line() -> None:
    assert columns([("NAME", "WHY"), ("a", "one\n\x1b]0;two")]) == "NAME   WHY\na      one \\x1b]0;two\n"
