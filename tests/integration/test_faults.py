"""Crashes of operator and panel at every point where one would hurt: nothing is lost, nothing runs twice."""

import itertools
from datetime import datetime

import pytest
from tests.support.faults import Night, eventually, manifest, processes_of, shell

from kuberpa.failpoints import Failpoint

ROBOT = "worker"


@pytest.fixture(autouse=True)
def _robot(worker: str) -> None:
    """Every test here needs the robot."""
    assert worker == ROBOT


def name_of(point: Failpoint) -> str:
    return point.replace(".", "-")


@pytest.mark.parametrize(
    ("program", "point"),
    [
        ("operator", Failpoint.ASSIGN_BEFORE),
        ("operator", Failpoint.ASSIGN_AFTER),
        ("panel", Failpoint.START_BEFORE),
        ("panel", Failpoint.START_AFTER),
        ("panel", Failpoint.RUNNING_BEFORE),
        ("panel", Failpoint.RUNNING_AFTER),
        ("panel", Failpoint.REPORT_BEFORE_ARCHIVE),
        ("panel", Failpoint.REPORT_AFTER_ARCHIVE),
        ("panel", Failpoint.REPORT_AFTER_STATUS),
        ("panel", Failpoint.CONNECT_BEFORE),
        ("panel", Failpoint.CONNECT_AFTER),
    ],
)
def test_an_item_runs_exactly_once_though_a_program_crashes_on_its_way(
    night: Night, program: str, point: Failpoint
) -> None:
    night.arm(program, point)
    night.item(name_of(point), ROBOT, f"{night.entry}; sleep 0.5")
    status = night.ends(name_of(point), "Succeeded")
    night.crashed(point)
    uid = night.get("activityitem", name_of(point))["metadata"]["uid"]
    assert len(night.runs_of(uid)) == 1
    assert status["attempt"] == 1
    assert status["archivedAt"]


@pytest.mark.parametrize("point", [Failpoint.STOP_BEFORE, Failpoint.STOP_AFTER])
def test_a_stop_reaches_the_program_though_the_panel_crashes_on_its_way(night: Night, point: Failpoint) -> None:
    night.arm("panel", point)
    night.item(name_of(point), ROBOT, f"{night.entry}; exec sleep 300")
    night.ends(name_of(point), "Running")
    night.cluster.kubectl(
        "patch", "activityitem", name_of(point), "--type=merge", "-p", '{"spec":{"desiredState":"Stop"}}'
    )
    status = night.ends(name_of(point), "Stopped")
    night.crashed(point)
    assert not status.get("survivors")
    uid = night.get("activityitem", name_of(point))["metadata"]["uid"]
    assert len(night.runs_of(uid)) == 1
    assert not processes_of(uid)


@pytest.mark.parametrize("point", [Failpoint.ITEM_STATUS_BEFORE, Failpoint.ITEM_STATUS_AFTER])
def test_a_stop_of_a_waiting_item_survives_a_crash_of_the_operator(night: Night, point: Failpoint) -> None:
    night.arm("operator", point)
    night.apply(
        manifest("ActivityItem", name_of(point), shell(night.entry, robotRef={"name": "nobody"}, desiredState="Stop"))
    )
    night.ends(name_of(point), "Stopped")
    night.crashed(point)


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
    night.cluster.kubectl("patch", "schedule", name_of(point), "--type=merge", "-p", '{"spec":{"suspend":true}}')
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
