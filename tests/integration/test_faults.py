"""Crashes of operator and panel at every point where one would hurt: nothing is lost, nothing runs twice."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from tests.support.faults import Night, eventually, manifest, processes_of, shell

from kuberpa.failpoints import Failpoint
from kuberpa.lifecycle import TRANSITIONS, Event

ROBOT = "worker"


@pytest.fixture(autouse=True)
def _robot(worker: str) -> None:
    """Every test here needs the robot."""
    assert worker == ROBOT


def name_of(point: Failpoint) -> str:
    return point.replace(".", "-")


Trigger = Callable[[Night, str], None]
"""Makes a row's event happen to the item of that name, once the program is armed."""


def desire(state: str) -> Trigger:
    patch = f'{{"spec":{{"desiredState":"{state}"}}}}'
    return lambda night, name: night.patch("activityitem", name, patch)


def delete_pod(night: Night, name: str) -> None:
    night.cluster.kubectl("delete", "pod", f"robot-{name}", "--force", "--grace-period=0")


def nothing(night: Night, name: str) -> None:
    """The event happens by itself."""


@dataclass(frozen=True)
class Row:
    """An event of the lifecycle's table, how it comes about, and where its program may crash meanwhile."""

    event: Event
    program: str
    points: tuple[Failpoint, ...]
    ends: str
    script: str = "exec sleep 300"
    runs: int = 1
    robot: str = ROBOT
    spec: dict[str, Any] = field(default_factory=dict)
    armed_in: str = ""
    """Phase in which the program is armed; empty: before the item exists."""
    trigger: Trigger = nothing


AGAIN = 'sleep 0.3; [ "$(grep -c "^${KUBERPA_RUN%-*}" LEDGER)" -ge 2 ]'
"""Fails in the first attempt of an item, and succeeds in the second."""
SLOW_TO_STOP = "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done"
"""Leaves the operator time to write that it is being stopped."""
ASSIGNING = (Failpoint.ASSIGN_BEFORE, Failpoint.ASSIGN_AFTER)
STARTING = (Failpoint.START_BEFORE, Failpoint.START_AFTER, Failpoint.CONNECT_BEFORE, Failpoint.CONNECT_AFTER)
RUNNING = (Failpoint.RUNNING_BEFORE, Failpoint.RUNNING_AFTER)
REPORTING = (Failpoint.REPORT_BEFORE_ARCHIVE, Failpoint.REPORT_AFTER_ARCHIVE, Failpoint.REPORT_AFTER_STATUS)
STOPPING = (Failpoint.STOP_BEFORE, Failpoint.STOP_AFTER)
BY_OPERATOR = (Failpoint.ITEM_STATUS_BEFORE, Failpoint.ITEM_STATUS_AFTER)

ROWS = (
    Row(Event.ASSIGN, "operator", ASSIGNING, "Succeeded", "sleep 0.5"),
    Row(Event.START, "panel", STARTING + RUNNING, "Succeeded", "sleep 0.5"),
    Row(Event.SUCCEED, "panel", REPORTING, "Succeeded", "sleep 0.5"),
    Row(Event.FAIL, "panel", REPORTING, "Failed", "exit 3"),
    Row(Event.RETRY, "panel", REPORTING, "Succeeded", AGAIN, runs=2, spec={"retry": {"limit": 1, "backoffSeconds": 0}}),
    Row(Event.STOP, "panel", STOPPING + REPORTING, "Stopped", armed_in="Running", trigger=desire("Stop")),
    Row(Event.KILL, "panel", STOPPING + REPORTING, "Killed", armed_in="Running", trigger=desire("Kill")),
    Row(
        Event.REQUEST_STOP,
        "operator",
        BY_OPERATOR,
        "Stopped",
        SLOW_TO_STOP,
        armed_in="Running",
        trigger=desire("Stop"),
    ),
    Row(Event.STOP, "operator", BY_OPERATOR, "Stopped", runs=0, robot="nobody", spec={"desiredState": "Stop"}),
    Row(Event.KILL, "operator", BY_OPERATOR, "Killed", runs=0, robot="nobody", spec={"desiredState": "Kill"}),
    Row(Event.FAIL, "operator", BY_OPERATOR, "Failed", runs=0, spec={"def": "no.such.definition"}),
    Row(
        Event.EXPIRE,
        "operator",
        BY_OPERATOR,
        "Expired",
        runs=0,
        robot="nobody",
        spec={"startDeadlineSeconds": 15},
        armed_in="Pending",
    ),
    Row(Event.LOSE, "operator", BY_OPERATOR, "Lost", robot="", armed_in="Running", trigger=delete_pod),
)
TRIED_BY_A_SCRIPTED_AGENT = {Event.HAND_BACK}
"""An agent that is busier than its operator knows cannot be made at will: see test_panel_faults."""


def test_every_event_of_the_lifecycle_is_tried() -> None:
    table = {event for events in TRANSITIONS.values() for event in events}
    assert {row.event for row in ROWS} | TRIED_BY_A_SCRIPTED_AGENT == table


@pytest.mark.parametrize(
    ("row", "point"),
    [pytest.param(row, point, id=f"{row.event}-{point}") for row in ROWS for point in row.points],
)
def test_an_item_ends_as_it_should_though_a_program_crashes_on_its_way(
    night: Night, row: Row, point: Failpoint
) -> None:
    name = f"{row.event}-{point}".replace(".", "-").replace(" ", "-")
    robot = row.robot or name
    if not row.robot:
        night.robot(robot)
    if not row.armed_in:
        night.arm(row.program, point, name)
    script = f"{night.entry}; {row.script.replace('LEDGER', str(night.ledger_file))}"
    night.item(name, robot, script, **row.spec)
    if row.armed_in:
        night.ends(name, row.armed_in)
        night.arm(row.program, point, name)
        night.works(row.program)
    row.trigger(night, name)
    status = night.ends(name, row.ends)
    night.crashed(point, name)
    eventually(lambda: night.get("activityitem", name)["status"].get("archivedAt"), f"{name} is archived")
    uid = night.get("activityitem", name)["metadata"]["uid"]
    assert len(night.runs_of(uid)) == row.runs
    assert status.get("attempt", 0) == row.runs
    assert not status.get("survivors")
    eventually(lambda: not processes_of(uid), f"nothing of {name} is left")


@pytest.mark.parametrize("point", [Failpoint.ARCHIVE_BEFORE, Failpoint.ARCHIVE_AFTER])
def test_an_item_that_never_ran_is_archived_though_the_panel_crashes(night: Night, point: Failpoint) -> None:
    night.arm("panel", point)
    night.apply(
        manifest("ActivityItem", name_of(point), shell(night.entry, robotRef={"name": "nobody"}, desiredState="Kill"))
    )
    eventually(lambda: night.get("activityitem", name_of(point)).get("status", {}).get("archivedAt"), "it is archived")
    night.crashed(point)


@pytest.mark.parametrize("point", [Failpoint.DELETE_BEFORE, Failpoint.DELETE_AFTER])
def test_a_finished_item_goes_after_its_ttl_though_the_operator_crashes(night: Night, point: Failpoint) -> None:
    night.arm("operator", point)
    night.item(name_of(point), ROBOT, night.entry, ttlSecondsAfterFinished=1)
    eventually(lambda: night.phase(name_of(point)) == "Succeeded" or night.ledger(), "it ran")
    eventually(lambda: not night.get("activityitem", name_of(point)), "it is deleted")
    night.crashed(point)


@pytest.mark.parametrize("point", [Failpoint.POD_BEFORE, Failpoint.POD_AFTER, Failpoint.POD_AFTER_STATUS])
def test_a_robot_gets_one_pod_though_the_operator_crashes(night: Night, point: Failpoint) -> None:
    night.arm("operator", point)
    night.robot(name_of(point))
    night.crashed(point)
    assert len(night.objects("pods", "-l", f"kuberpa.dev/robot={name_of(point)}")) == 1
    night.cluster.kubectl("delete", "robot", name_of(point))


@pytest.mark.parametrize("point", [Failpoint.POD_DELETE_BEFORE, Failpoint.POD_DELETE_AFTER])
def test_a_changed_robot_gets_a_new_pod_though_the_operator_crashes(night: Night, point: Failpoint) -> None:
    name = name_of(point)
    night.robot(name)
    before = night.get("pod", f"robot-{name}")["metadata"]["uid"]
    night.arm("operator", point)
    night.patch("robot", name, '{"spec":{"runtime":{"linuxPod":{"image":"other:1"}}}}')
    night.crashed(point)
    eventually(lambda: night.get("pod", f"robot-{name}").get("metadata", {}).get("uid", before) != before, "a new pod")
    eventually(lambda: night.get("robot", name)["status"]["phase"] == "Idle", "the robot is Idle")
    assert len(night.objects("pods", "-l", f"kuberpa.dev/robot={name}")) == 1
    night.cluster.kubectl("delete", "robot", name)


@pytest.mark.parametrize("point", [Failpoint.REPLACE_BEFORE, Failpoint.REPLACE_AFTER])
def test_a_firing_replaces_the_one_before_though_the_operator_crashes(night: Night, point: Failpoint) -> None:
    night.arm("operator", point)
    spec = {
        "schedules": ["*/8 * * * * *"],
        "concurrencyPolicy": "Replace",
        "historyLimits": {"succeeded": 1000, "failed": 1000},
        "action": {"activity": {"spec": shell(f"{night.entry}; exec sleep 300", robotRef={"name": ROBOT})}},
    }
    night.apply(manifest("Schedule", name_of(point), spec))
    night.crashed(point)
    eventually(lambda: [p for _, p, _ in children(night, name_of(point))].count("Stopped") >= 2, "two are replaced")
    night.patch("schedule", name_of(point), '{"spec":{"suspend":true}}')
    fired = children(night, name_of(point))
    assert len({at for at, _, _ in fired}) == len(fired)
    for _, _, uid in fired:
        assert len(night.runs_of(uid)) <= 1
    night.cluster.kubectl("delete", "schedule", name_of(point))
    eventually(lambda: not any(processes_of(uid) for _, _, uid in fired), "nothing of them is left")


@pytest.mark.parametrize("point", [Failpoint.FIRE_BEFORE, Failpoint.FIRE_AFTER, Failpoint.FIRE_AFTER_STATUS])
def test_every_instant_of_a_schedule_fires_once_though_the_operator_crashes(night: Night, point: Failpoint) -> None:
    night.arm("operator", point)
    spec = {
        "schedules": ["*/2 * * * * *"],
        "concurrencyPolicy": "Allow",
        "catchUp": {"policy": "All", "maxRuns": 100},
        "historyLimits": {"succeeded": 1000, "failed": 1000},
        "action": {"activity": {"spec": shell(night.entry, robotRef={"name": ROBOT})}},
    }
    night.apply(manifest("Schedule", name_of(point), spec))
    night.crashed(point)
    eventually(lambda: len(children(night, name_of(point))) >= 8, "eight firings")
    night.patch("schedule", name_of(point), '{"spec":{"suspend":true}}')
    eventually(
        lambda: all(phase == "Succeeded" for _, phase, _ in children(night, name_of(point))), "all have succeeded"
    )
    fired = children(night, name_of(point))
    instants = sorted(at for at, _, _ in fired)
    assert {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(instants)} == {2.0}
    for _, _, uid in fired:
        assert len(night.runs_of(uid)) == 1
    assert not night.get("schedule", name_of(point))["status"].get("missed")


def children(night: Night, schedule: str) -> list[tuple[datetime, str, str]]:
    """Nominal instant, phase and UID of every item of a schedule."""
    items = night.objects("activityitems", "-l", f"kuberpa.dev/schedule={schedule}")
    return [
        (
            datetime.fromisoformat(item["metadata"]["annotations"]["kuberpa.dev/scheduled-at"]),
            item.get("status", {}).get("phase", ""),
            item["metadata"]["uid"],
        )
        for item in items
    ]
