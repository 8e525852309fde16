"""The table of a Robot's life: every wish with every observation, and what agents are told."""

import re
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from kuberpa import robot_lifecycle
from kuberpa.names import ANNOTATION_RESTART_MODE, ANNOTATION_RESTARTED_AT
from kuberpa.robot import Goal, Robot, RobotPhase, RobotState, StopMode
from kuberpa.robot_lifecycle import REACHED, STEPS, Act, Situation, goal_of, step, stop_mode, told
from kuberpa.robot_orders import RobotAction, patch_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERY_PAIR = list(product(Goal, Situation))


def a_robot(annotations: dict[str, str] | None = None, transition: Any = None, **spec: Any) -> Robot:
    return Robot.of(
        {
            "metadata": {"name": "r", "annotations": annotations or {}},
            "spec": {"runtime": {"linuxPod": {}}, **spec},
            "status": {"transition": transition} if transition else {},
        }
    )


@pytest.mark.parametrize(("goal", "situation"), EVERY_PAIR)
def test_every_wish_and_observation_has_a_step(goal: Goal, situation: Situation) -> None:
    assert step(goal, situation) is STEPS[goal][situation]


@pytest.mark.parametrize(("goal", "situation"), EVERY_PAIR)
def test_stopped_is_said_only_without_a_pod(goal: Goal, situation: Situation) -> None:
    if step(goal, situation).phase is RobotPhase.STOPPED:
        assert (goal, situation) == (Goal.STOP, Situation.ABSENT)


@pytest.mark.parametrize(("goal", "situation"), EVERY_PAIR)
def test_paused_is_said_only_when_nothing_goes_on(goal: Goal, situation: Situation) -> None:
    if step(goal, situation).phase is RobotPhase.PAUSED:
        assert goal is Goal.PAUSE
        assert situation in {Situation.HELD, Situation.QUIET}


@pytest.mark.parametrize(("goal", "situation"), EVERY_PAIR)
def test_a_pod_is_made_where_one_is_wanted_and_ended_where_none_is(goal: Goal, situation: Situation) -> None:
    act = step(goal, situation).act
    if situation is Situation.ABSENT:
        assert act is (Act.KEEP if goal is Goal.STOP else Act.CREATE)
    elif situation is Situation.LEAVING:
        assert act is Act.KEEP
    else:
        assert act is (Act.END if goal.ends_pod or situation is Situation.ENDED else Act.KEEP)


@pytest.mark.parametrize("goal", Goal)
def test_whatever_is_wanted_can_be_reached_and_is_named_so(goal: Goal) -> None:
    phases = {step(goal, situation).phase for situation in Situation}
    assert REACHED[goal] <= phases
    assert goal is Goal.RESTART or REACHED[goal]


@pytest.mark.parametrize(
    ("before", "after", "situation"), [(a, b, s) for a, b in product(Goal, Goal) for s in Situation if a is not b]
)
def test_a_change_of_mind_is_as_if_the_first_wish_had_never_been(
    before: Goal, after: Goal, situation: Situation
) -> None:
    """The step has no memory: it follows from the latest wish and observation alone."""
    step(before, situation)
    assert step(after, situation) == STEPS[after][situation]


def test_the_table_in_words_says_the_same() -> None:
    words = (robot_lifecycle.__doc__ or "").splitlines()
    columns = list(Situation)
    for goal in (Goal.RUN, Goal.PAUSE):
        line = next(line for line in words if line.strip().startswith(goal.value))
        shown = re.split(r"\s{2,}", line.strip())[1:]
        marks = {Act.CREATE: "+", Act.END: "-", Act.KEEP: ""}
        assert shown == [f"{step(goal, s).phase}{marks[step(goal, s).act]}" for s in columns]


@pytest.mark.parametrize(
    ("desired", "wish", "pod", "goal"),
    [
        ("Running", "", "", Goal.RUN),
        ("Running", "", None, Goal.RUN),
        ("Running", "t1", None, Goal.RUN),
        ("Running", "t1", "t1", Goal.RUN),
        ("Running", "t2", "t1", Goal.RESTART),
        ("Running", "t1", "", Goal.RESTART),
        ("Running", "", "t1", Goal.RUN),
        ("Paused", "", "", Goal.PAUSE),
        ("Paused", "t1", "", Goal.RESTART),
        ("Stopped", "t1", "", Goal.STOP),
        ("Stopped", "", None, Goal.STOP),
    ],
)
def test_a_stop_comes_before_a_restart_and_that_before_the_rest(
    desired: str, wish: str, pod: str | None, goal: Goal
) -> None:
    robot = a_robot({ANNOTATION_RESTARTED_AT: wish} if wish else None, desiredState=desired)
    assert goal_of(robot, pod) is goal


@pytest.mark.parametrize(("mode", "expected"), [("Force", StopMode.FORCE), ("Safe", StopMode.SAFE), ("x", "Force")])
def test_a_restart_may_say_how_and_nonsense_is_as_if_it_had_not(mode: str, expected: str) -> None:
    robot = a_robot({ANNOTATION_RESTART_MODE: mode}, stop={"mode": "Force"})
    assert stop_mode(robot, Goal.RESTART) == expected
    assert stop_mode(robot, Goal.STOP) is StopMode.FORCE


def transition(to: str, **more: Any) -> dict[str, Any]:
    return {"to": to, "startedAt": NOW, **more}


@pytest.mark.parametrize(
    ("spec", "now", "expected"),
    [
        ({}, None, RobotState.RUNNING),
        ({"desiredState": "Paused"}, None, RobotState.PAUSED),
        ({"desiredState": "Stopped"}, None, RobotState.STOPPING),
        ({"desiredState": "Stopped", "stop": {"mode": "Force"}}, None, RobotState.KILLING),
        ({"desiredState": "Stopped"}, transition("Stopped", forcedAt=NOW), RobotState.KILLING),
        ({"desiredState": "Stopped"}, transition("Restarted", forcedAt=NOW), RobotState.STOPPING),
        ({"desiredState": "Stopped"}, transition("Stopped", forcedAt=NOW, finishedAt=NOW), RobotState.STOPPING),
        ({}, transition("Stopped", forcedAt=NOW), RobotState.RUNNING),
        ({}, transition("Restarted"), RobotState.STOPPING),
        ({"desiredState": "Paused"}, transition("Restarted", forcedAt=NOW), RobotState.KILLING),
        ({"desiredState": "Paused"}, transition("Restarted", finishedAt=NOW), RobotState.PAUSED),
    ],
)
def test_the_agent_is_told_what_the_robot_says(spec: dict[str, Any], now: Any, expected: RobotState) -> None:
    assert told(a_robot(transition=now, **spec)) is expected


def test_orders_are_patches_of_what_they_concern_and_nothing_else() -> None:
    assert patch_of(RobotAction.START, NOW) == {"spec": {"desiredState": "Running"}}
    assert patch_of(RobotAction.PAUSE, NOW, take_over=True) == {"spec": {"desiredState": "Paused", "control": "Manual"}}
    assert patch_of(RobotAction.STOP, NOW) == {"spec": {"desiredState": "Stopped", "stop": {"mode": "Safe"}}}
    assert patch_of(RobotAction.STOP, NOW, force=True, grace_seconds=5) == {
        "spec": {"desiredState": "Stopped", "stop": {"mode": "Force", "gracePeriodSeconds": 5}}
    }
    assert patch_of(RobotAction.RESTART, NOW, force=True) == {
        "metadata": {"annotations": {ANNOTATION_RESTARTED_AT: "2026-03-01T12:00:00Z", ANNOTATION_RESTART_MODE: "Force"}}
    }
    assert patch_of(RobotAction.AUTO, NOW) == {"spec": {"control": "Auto"}}
    assert patch_of(RobotAction.MANUAL, NOW) == {"spec": {"control": "Manual"}}
