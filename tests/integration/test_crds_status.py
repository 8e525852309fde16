"""The fence of status: what no writer can do, however late or confused it is."""

from itertools import product
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.resources import Body, created, manifest, patch_status, read

from kuberpa.activity import FINAL_PHASES, ActivityItemStatus, ActivityPhase
from kuberpa.calendar import CalendarStatus
from kuberpa.cel import RULES
from kuberpa.lifecycle import TRANSITIONS
from kuberpa.robot import RobotStatus
from kuberpa.schedule import ScheduleStatus

P = ActivityPhase

# How an item gets into each phase, by steps that are all allowed.
WAYS: dict[ActivityPhase, tuple[ActivityPhase, ...]] = {
    P.PENDING: (),
    P.ASSIGNED: (P.ASSIGNED,),
    P.RUNNING: (P.ASSIGNED, P.RUNNING),
    P.STOPPING: (P.ASSIGNED, P.STOPPING),
    P.SUCCEEDED: (P.ASSIGNED, P.SUCCEEDED),
    P.FAILED: (P.FAILED,),
    P.STOPPED: (P.STOPPED,),
    P.KILLED: (P.KILLED,),
    P.EXPIRED: (P.EXPIRED,),
    P.LOST: (P.ASSIGNED, P.LOST),
}
LEASE = {"token": 5, "holder": "pod-a"}


def item_in(cluster: Cluster, phase: ActivityPhase, lease: Body | None = None) -> Body:
    """An item that has got into a phase under a lease."""
    item = created(cluster, manifest("ActivityItem"))
    for step in WAYS[phase] or (P.PENDING,):
        status = {"phase": step, "lease": lease or LEASE}
        assert patch_status(cluster, item, status).returncode == 0
    return item


@pytest.mark.parametrize("before", list(ActivityPhase))
def test_the_api_server_allows_the_transitions_of_the_lifecycle_and_no_others(
    crds: Cluster, before: ActivityPhase
) -> None:
    allowed = {before, *TRANSITIONS[before].values()}
    stuck = item_in(crds, before)
    for after in ActivityPhase:
        item = item_in(crds, before) if after in allowed else stuck
        token = 6 if (before, after) == (P.PENDING, P.ASSIGNED) else 5
        run = patch_status(crds, item, {"phase": after, "lease": LEASE | {"token": token}})
        assert (run.returncode == 0) is (after in allowed), f"{before} to {after}: {run.stderr}"
        assert run.returncode == 0 or "status.phase: Forbidden: a final phase (" in run.stderr


@pytest.mark.parametrize("first", [phase for phase in ActivityPhase if phase not in TRANSITIONS[P.PENDING].values()])
def test_an_item_without_status_counts_as_pending(crds: Cluster, first: ActivityPhase) -> None:
    if first is P.PENDING:
        return
    run = patch_status(crds, created(crds, manifest("ActivityItem")), {"phase": first})
    assert "status.phase: Forbidden" in run.stderr


@pytest.mark.parametrize("phase", sorted(FINAL_PHASES))
def test_what_is_final_can_still_be_marked_archived(crds: Cluster, phase: ActivityPhase) -> None:
    item = item_in(crds, phase)
    assert patch_status(crds, item, {"archivedAt": "2026-01-31T09:00:00Z"}).returncode == 0


def test_a_lost_item_takes_a_late_report_only_under_its_own_token(crds: Cluster) -> None:
    item = item_in(crds, P.LOST)
    run = patch_status(crds, item, {"phase": P.SUCCEEDED, "lease": {"token": 6, "holder": "pod-b"}})
    assert "a Lost item takes a late report only under the same lease.token" in run.stderr
    assert patch_status(crds, item, {"phase": P.SUCCEEDED, "lease": LEASE}).returncode == 0


@pytest.mark.parametrize("lease", [{"token": 4}, {"token": None}, None])
def test_a_token_never_decreases_nor_disappears(crds: Cluster, lease: Body | None) -> None:
    run = patch_status(crds, item_in(crds, P.RUNNING), {"lease": lease})
    assert run.returncode
    assert "status.lease.token never decreases" in run.stderr


@pytest.mark.parametrize("holder", ["pod-b", "", None])
def test_one_token_has_one_holder(crds: Cluster, holder: str | None) -> None:
    item = item_in(crds, P.RUNNING)
    run = patch_status(crds, item, {"lease": {"token": 5, "holder": holder}})
    assert "status.lease: Forbidden: one token has one holder" in run.stderr
    assert patch_status(crds, item, {"lease": {"token": 6, "holder": holder or ""}}).returncode == 0


def test_a_holder_needs_a_token(crds: Cluster) -> None:
    run = patch_status(crds, created(crds, manifest("ActivityItem")), {"lease": {"token": 0, "holder": "pod-a"}})
    assert "a holder needs a token of 1 or more" in run.stderr


def test_an_assignment_needs_a_higher_token_than_the_one_before(crds: Cluster) -> None:
    item = item_in(crds, P.ASSIGNED)
    assert patch_status(crds, item, {"phase": P.PENDING}).returncode == 0
    run = patch_status(crds, item, {"phase": P.ASSIGNED, "lease": LEASE})
    assert "an assignment needs a lease.token higher than the one before" in run.stderr
    assert patch_status(crds, item, {"phase": P.ASSIGNED, "lease": {"token": 6, "holder": "pod-b"}}).returncode == 0


@pytest.mark.parametrize(("kind", "phase"), [("ActivityItem", "Assigned"), ("Robot", "Idle")])
@pytest.mark.parametrize("removed", [None, {"phase": None}])
def test_a_status_cannot_be_removed_once_it_has_a_phase(
    crds: Cluster, kind: str, phase: str, removed: Body | None
) -> None:
    body = created(crds, manifest(kind))
    assert patch_status(crds, body, {"phase": phase, "lease": LEASE}).returncode == 0
    run = patch_status(crds, body, removed)
    assert "status: Forbidden: cannot be removed once it has a phase" in run.stderr
    assert read(crds, body)["status"]["phase"] == phase


@pytest.mark.parametrize("agent", [{"epoch": 6}, {"epoch": None}, None])
def test_an_agents_epoch_never_decreases_nor_disappears(crds: Cluster, agent: Body | None) -> None:
    robot = created(crds, manifest("Robot"))
    assert patch_status(crds, robot, {"agent": {"epoch": 7, "connected": True}}).returncode == 0
    assert "status.agent.epoch never decreases" in patch_status(crds, robot, {"agent": agent}).stderr
    assert patch_status(crds, robot, {"agent": {"epoch": 7, "connected": False}}).returncode == 0
    assert patch_status(crds, robot, {"agent": {"epoch": 8}}).returncode == 0


@pytest.mark.parametrize("change", [{"lastScheduleTime": "2026-01-31T08:59:59Z"}, {"lastScheduleTime": None}, None])
def test_a_schedules_last_instant_never_moves_back(crds: Cluster, change: Body | None) -> None:
    schedule = created(crds, manifest("Schedule"))
    assert patch_status(crds, schedule, {"lastScheduleTime": "2026-01-31T09:00:00Z"}).returncode == 0
    assert "status.lastScheduleTime: Forbidden: never moves back" in patch_status(crds, schedule, change).stderr
    assert patch_status(crds, schedule, {"lastScheduleTime": "2026-01-31T09:00:00.5Z"}).returncode == 0


def test_the_count_of_a_schedules_firings_and_what_is_stored_of_them_never_decrease(crds: Cluster) -> None:
    schedule = created(crds, manifest("Schedule"))
    assert patch_status(crds, schedule, {"firingCount": 7, "history": {"through": 5}}).returncode == 0
    assert "status.firingCount never decreases" in patch_status(crds, schedule, {"firingCount": 6}).stderr
    for through, words in (
        (4, "status.history.through never decreases"),
        (8, "cannot be more than status.firingCount"),
    ):
        assert words in patch_status(crds, schedule, {"history": {"through": through}}).stderr
    assert patch_status(crds, schedule, {"history": {"through": 7}}).returncode == 0
    assert patch_status(crds, schedule, {"queueItemCount": 2, "history": {"queueItems": 2}}).returncode == 0
    assert "status.queueItemCount never decreases" in patch_status(crds, schedule, {"queueItemCount": 1}).stderr
    lower = patch_status(crds, schedule, {"history": {"queueItems": 1}})
    assert "status.history.queueItems never decreases" in lower.stderr


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Robot", RobotStatus()),
        ("ActivityItem", ActivityItemStatus()),
        ("Schedule", ScheduleStatus()),
        ("Calendar", CalendarStatus()),
    ],
)
def test_what_the_models_write_is_stored_as_it_is(crds: Cluster, kind: str, status: Any) -> None:
    body = created(crds, manifest(kind))
    run = patch_status(crds, body, status.to_json())
    assert run.returncode == 0, run.stderr
    assert read(crds, body)["status"] == status.to_json()


@pytest.mark.parametrize("result", [{"total": 1.5, "rows": [1, None]}, [1, "a", None], "text", 0, False])
def test_any_json_is_a_result(crds: Cluster, result: Any) -> None:
    item = item_in(crds, P.RUNNING)
    assert patch_status(crds, item, {"phase": P.SUCCEEDED, "result": result}).returncode == 0
    assert read(crds, item)["status"]["result"] == result


def test_conditions_are_told_apart_by_type(crds: Cluster) -> None:
    robot = created(crds, manifest("Robot"))
    ready = {"type": "Ready", "status": "True", "reason": "Idle", "lastTransitionTime": "2026-01-31T09:00:00Z"}
    assert "Duplicate value" in patch_status(crds, robot, {"conditions": [ready, ready]}).stderr
    assert patch_status(crds, robot, {"conditions": [ready, ready | {"type": "AgentConnected"}]}).returncode == 0


def test_every_rule_of_a_status_is_tried_here() -> None:
    tried = (
        "a final phase (",
        "a Lost item takes a late report only",
        "status.lease.token never decreases",
        "one token has one holder",
        "a holder needs a token",
        "an assignment needs a lease.token higher",
        "cannot be removed once it has a phase",
        "status.agent.epoch never decreases",
        "never moves back",
        "status.firingCount never decreases",
        "status.history.through never decreases",
        "status.queueItemCount never decreases",
        "status.history.queueItems never decreases",
        "cannot be more than status.firingCount",
        "the numbers up to it have been given to activities",  # tests of triggers
        "belongs into the GSettings named kuberpa",  # tests of settings
        "must name another queue",  # tests of spec, as the next
        "metadata.name: must have at most",
        "must have matchLabels, all of which",
    )
    for kind, path in product(RULES, ("", "status.lease")):
        for rule in RULES[kind].get(path, ()):
            assert any(words in rule.message for words in tried), rule.message
