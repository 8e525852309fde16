"""Each rule of an ActivityItem by itself, and the whole product of phases and wishes."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from tests.support.operator import START

from kuberpa.activity import (
    FINAL_PHASES,
    ON_ROBOT_PHASES,
    ActivityItem,
    ActivityItemStatus,
    ActivityPhase,
    DesiredState,
)
from kuberpa.lifecycle import TRANSITIONS
from kuberpa.reasons import Reason
from kuberpa_operator.core import activity
from kuberpa_operator.core.activity import PENDING_RULES, RULES, Snapshot, decide
from kuberpa_operator.core.dispatch import Seat, Verdict
from kuberpa_operator.core.effects import DeleteItem

NOW = START + timedelta(hours=1)
SEAT = Seat("default", "invoices", ready=True, holder="pod-1")


def snapshot(
    phase: ActivityPhase = ActivityPhase.PENDING, spec: dict[str, Any] | None = None, **changes: Any
) -> Snapshot:
    status = {
        "phase": phase,
        "robot": "" if phase is ActivityPhase.PENDING else "invoices",
        "attempt": 0 if phase is ActivityPhase.PENDING else 1,
        "lease": {} if phase is ActivityPhase.PENDING else {"token": 1, "holder": "pod-1"},
        **changes.pop("status", {}),
    }
    if phase in FINAL_PHASES:
        status = {"finishedAt": START.isoformat(), "archivedAt": START.isoformat(), **status}
    meta = {"name": "one", "namespace": "default", "uid": "u1", "creationTimestamp": START.isoformat()}
    item = ActivityItem.of(
        {
            "metadata": {**meta, **changes.pop("meta", {})},
            "spec": {"robotRef": {"name": "invoices"}, "def": "os.command", **(spec or {})},
            "status": status,
        }
    )
    return Snapshot(item=item, now=NOW, phase_since=START, **changes)


@pytest.mark.parametrize(
    ("phase", "wish", "holder", "lost"), list(product(ActivityPhase, DesiredState, (True, False), (True, False)))
)
def test_every_decision_is_a_transition_of_the_table(
    phase: ActivityPhase, wish: DesiredState, holder: bool, lost: bool
) -> None:
    decision = decide(snapshot(phase, {"desiredState": wish}, holder_exists=holder, agent_lost=lost, grant=None))
    if decision.status is None:
        return
    assert isinstance(decision.status, ActivityItemStatus)
    after = decision.status.phase
    assert after is phase or after in TRANSITIONS[phase].values()
    assert phase not in FINAL_PHASES, "a final phase never changes"


@pytest.mark.parametrize("phase", sorted(ON_ROBOT_PHASES))
@pytest.mark.parametrize(
    ("facts", "reason"), [({"holder_exists": False}, "PodGone"), ({"agent_lost": True}, "AgentLost")]
)
def test_on_every_phase_on_a_robot_the_item_can_be_lost(
    phase: ActivityPhase, facts: dict[str, Any], reason: str
) -> None:
    decision = decide(snapshot(phase, **facts))
    assert isinstance(decision.status, ActivityItemStatus)
    assert (decision.status.phase, decision.status.reason) == (ActivityPhase.LOST, reason)


def test_rules_are_in_the_order_of_policy() -> None:
    assert [rule.__name__ for rule in RULES] == ["deleted", "outlived", "pod_gone", "agent_lost", "request_stop"]
    assert [rule.__name__ for rule in PENDING_RULES] == [
        "deleted",
        "stop_before_start",
        "invalid_input",
        "expire",
        "act_on_robot",
        "back_off",
        "pause_after_hand_back",
        "assign",
        "archive_unavailable",
        "unknown_definition",
        "explain",
    ]


@pytest.mark.parametrize("phase", ActivityPhase)
def test_a_deleted_item_is_left_alone(phase: ActivityPhase) -> None:
    decision = decide(snapshot(phase, meta={"deletionTimestamp": START.isoformat()}, grant=SEAT, holder_exists=False))
    assert (decision.rule, decision.status, decision.effects) == ("deleted", None, ())


@pytest.mark.parametrize("phase", sorted(FINAL_PHASES))
def test_outlived_deletes_exactly_this_item(phase: ActivityPhase) -> None:
    assert decide(snapshot(phase)).effects == (DeleteItem("default", "one", "u1"),)


@pytest.mark.parametrize(
    ("changes", "deleted"),
    [
        ({"status": {"archivedAt": None}}, False),
        ({"spec": {"ttlSecondsAfterFinished": 3601}}, False),
        ({"spec": {"ttlSecondsAfterFinished": 3600}}, True),
        ({"spec": {"ttlSecondsAfterFinished": 99999}, "surplus": True}, True),
        ({"surplus": True, "status": {"archivedAt": None}}, False),
        ({"surplus": True, "firing_undecided": True}, False),
        ({"firing_undecided": True}, False),
    ],
)
def test_outlived_waits_for_ttl_archive_and_schedule(changes: dict[str, Any], deleted: bool) -> None:
    assert bool(decide(snapshot(ActivityPhase.SUCCEEDED, **changes)).effects) is deleted


def test_outlived_wakes_when_the_ttl_is_over() -> None:
    decision = decide(snapshot(ActivityPhase.FAILED, {"ttlSecondsAfterFinished": 7200}))
    assert decision.wake_at == START + timedelta(seconds=7200)


def test_assign_takes_the_next_token_and_counts_the_attempt() -> None:
    status = {"attempt": 2, "lease": {"token": 4, "holder": "old"}, "startedAt": START.isoformat(), "robot": "old"}
    decision = decide(snapshot(grant=SEAT, status=status))
    assert isinstance(decision.status, ActivityItemStatus)
    assert (decision.status.attempt, decision.status.lease.token, decision.status.lease.holder) == (3, 5, "pod-1")
    assert (decision.status.robot, decision.status.started_at) == ("invoices", None)


def test_assign_after_a_hand_back_does_not_count() -> None:
    status = {"attempt": 2, "reason": "HandedBack", "lease": {"token": 4, "holder": "old"}}
    decision = decide(snapshot(grant=SEAT, status=status))
    assert isinstance(decision.status, ActivityItemStatus)
    assert (decision.status.attempt, decision.status.lease.token) == (2, 5)


def test_pause_after_hand_back_waits_a_moment() -> None:
    status = {"attempt": 1, "reason": "HandedBack"}
    s = snapshot(status=status)
    fresh = Snapshot(item=s.item, now=NOW, phase_since=NOW)
    assert decide(fresh).wake_at == NOW + activity.HANDED_BACK_PAUSE
    assert not activity.is_dispatchable(fresh)
    assert activity.is_dispatchable(s)


def test_the_reason_handed_back_survives_until_the_next_assignment() -> None:
    waits = Verdict(Reason.ROBOT_BUSY, "busy")
    assert decide(snapshot(status={"attempt": 1, "reason": "HandedBack"}, verdict=waits)).status is None


def test_back_off_waits_for_the_retry() -> None:
    later = NOW + timedelta(seconds=9)
    decision = decide(snapshot(status={"retryAt": later.isoformat(), "attempt": 1}))
    assert (decision.rule, decision.wake_at, decision.status) == ("back-off", later, None)


@pytest.mark.parametrize(
    ("status", "expired"),
    [
        ({}, True),
        ({"attempt": 1, "reason": "HandedBack"}, True),
        ({"attempt": 1, "reason": "RetryBackoff"}, False),
    ],
)
def test_expire_counts_from_the_creation_to_the_first_attempt(status: dict[str, Any], expired: bool) -> None:
    decision = decide(
        snapshot(spec={"startDeadlineSeconds": 60}, status=status, verdict=Verdict(Reason.ROBOT_BUSY, "b"))
    )
    assert (decision.rule == "expire") is expired


def test_stop_before_start_comes_before_everything_else() -> None:
    decision = decide(snapshot(spec={"desiredState": "Kill", "startDeadlineSeconds": 1, "input": {"x": 1}}, grant=SEAT))
    assert isinstance(decision.status, ActivityItemStatus)
    assert (decision.status.phase, decision.status.reason) == (ActivityPhase.KILLED, "KillRequested")


def test_invalid_input_comes_before_assign() -> None:
    assert decide(snapshot(spec={"input": {"args": 1}}, grant=SEAT)).rule == "invalid-input"


def test_archive_unavailable_comes_before_unknown_definition() -> None:
    verdict = Verdict(Reason.UNKNOWN_DEFINITION, "unknown", final=True)
    assert decide(snapshot(verdict=verdict, archive_available=False)).rule == "archive-unavailable"
    assert decide(snapshot(verdict=verdict)).rule == "unknown-definition"


def test_explain_is_unhurried_patient_and_does_not_repeat_itself() -> None:
    verdict = Verdict(Reason.ROBOT_BUSY, "all slots are taken")
    fresh = snapshot(verdict=verdict)
    decision = decide(Snapshot(item=fresh.item, now=START, phase_since=START, verdict=verdict))
    assert (decision.status, decision.wake_at) == (None, START + activity.EXPLAIN_AFTER)
    decision = decide(fresh)
    assert decision.unhurried
    assert decision.status is not None
    told = snapshot(verdict=verdict, status={"reason": "RobotBusy", "message": "all slots are taken"})
    assert decide(told).status is None


def test_request_stop_tells_a_kill_from_a_stop() -> None:
    for wish, reason in (("Stop", "StopRequested"), ("Kill", "KillRequested")):
        decision = decide(snapshot(ActivityPhase.RUNNING, {"desiredState": wish}))
        assert isinstance(decision.status, ActivityItemStatus)
        assert (decision.status.phase, decision.status.reason) == (ActivityPhase.STOPPING, reason)


def test_pod_gone_with_its_robot_says_so() -> None:
    decision = decide(snapshot(ActivityPhase.RUNNING, holder_exists=False, robot_exists=False))
    assert decision.reason is Reason.ROBOT_DELETED
