"""What `kuberpa robot` says and when it is done, without a cluster."""

from typing import Any

import pytest

from kuberpa.robot import Robot
from kuberpa.robot_orders import RobotAction
from kuberpa_cli.work.arguments import robot_name
from kuberpa_cli.work.exits import UsageError
from kuberpa_cli.work.robots import Order, check_choice
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
    order = Order(RobotAction.RESTART)
    assert not order.is_done(robot("Idle"), robot("Starting", pod="b"))
    assert order.is_done(robot("Idle"), robot("Idle", pod="b"))


def test_an_order_says_what_it_means() -> None:
    stopping = robot("Idle", stop={"gracePeriodSeconds": 90})
    assert "is killed after 90 s" in Order(RobotAction.STOP).said(stopping)
    assert Order(RobotAction.STOP, force=True).said(stopping) == "clerk is to stop now: what runs is killed"


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
