from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from kuberpa.activity import FINAL_PHASES, ActivityItem, ActivityPhase
from kuberpa.lifecycle import (
    MAX_BACKOFF,
    TRANSITIONS,
    Event,
    IllegalTransitionError,
    Outcome,
    Report,
    StaleReportError,
    advance,
    backoff,
    conclude,
)
from kuberpa.reasons import Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPORTS = {Event.SUCCEED, Event.FAIL, Event.STOP, Event.KILL}


def an_item(*, phase: str = "Running", attempt: int = 1, desired: str = "Run", **retry: Any) -> ActivityItem:
    return ActivityItem.of(
        {
            "spec": {"robotRef": {"name": "r"}, "def": "os.command", "retry": retry, "desiredState": desired},
            "status": {"phase": phase, "attempt": attempt, "lease": {"token": attempt, "holder": "pod-1"}},
        }
    )


def a_report(outcome: Outcome = Outcome.FAILED, reason: Reason = Reason.NON_ZERO_EXIT, token: int = 1) -> Report:
    return Report(token=token, outcome=outcome, reason=reason, message="exit code 3", exit_code=3)


@pytest.mark.parametrize(("phase", "event"), list(product(ActivityPhase, Event)))
def test_every_pair_of_phase_and_event_is_either_in_the_table_or_refused(phase: ActivityPhase, event: Event) -> None:
    if event in TRANSITIONS[phase]:
        assert advance(phase, event) is TRANSITIONS[phase][event]
    else:
        with pytest.raises(IllegalTransitionError, match=event):
            advance(phase, event)


@pytest.mark.parametrize("phase", sorted(FINAL_PHASES - {ActivityPhase.LOST}))
def test_nothing_leaves_a_final_phase(phase: ActivityPhase) -> None:
    assert TRANSITIONS[phase] == {}


def test_only_a_late_report_leaves_lost() -> None:
    assert set(TRANSITIONS[ActivityPhase.LOST]) == REPORTS


@pytest.mark.parametrize("phase", sorted(set(ActivityPhase) - FINAL_PHASES))
def test_every_open_phase_takes_every_report(phase: ActivityPhase) -> None:
    assert set(TRANSITIONS[phase]) >= REPORTS


def test_a_stop_cannot_be_taken_back() -> None:
    assert Event.RETRY not in TRANSITIONS[ActivityPhase.STOPPING]
    assert Event.START not in TRANSITIONS[ActivityPhase.STOPPING]


def test_a_report_ends_the_item_with_its_time_and_exit_code() -> None:
    status = conclude(an_item(), a_report(), NOW)
    assert (status.phase, status.reason, status.exit_code, status.finished_at) == ("Failed", "NonZeroExit", 3, NOW)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_each_outcome_ends_in_the_phase_of_its_name(outcome: Outcome) -> None:
    assert conclude(an_item(), a_report(outcome), NOW).phase == ActivityPhase(outcome)


def test_a_report_of_another_token_is_refused() -> None:
    with pytest.raises(StaleReportError, match="token 1"):
        conclude(an_item(attempt=2), a_report(token=1), NOW)


@pytest.mark.parametrize(
    "report",
    [
        a_report(Outcome.FAILED),
        a_report(Outcome.LOST, Reason.AGENT_LOST),
        a_report(Outcome.STOPPED, Reason.TIMEOUT_EXCEEDED),
        a_report(Outcome.KILLED, Reason.TIMEOUT_EXCEEDED),
    ],
    ids=["failed", "lost", "stopped by its timeout", "killed by its timeout"],
)
def test_an_attempt_that_may_be_retried_waits_pending_for_its_backoff(report: Report) -> None:
    status = conclude(an_item(limit=1, backoffSeconds=10), report, NOW)
    assert (status.phase, status.reason) == ("Pending", "RetryBackoff")
    assert (status.retry_at, status.finished_at) == (NOW + timedelta(seconds=10), None)


def test_the_last_attempt_is_not_retried() -> None:
    assert conclude(an_item(attempt=2, limit=1), a_report(token=2), NOW).phase == "Failed"


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.STOPPED, Outcome.KILLED])
def test_what_somebody_wanted_is_not_retried(outcome: Outcome) -> None:
    assert conclude(an_item(limit=5), a_report(outcome, Reason.STOP_REQUESTED), NOW).phase == ActivityPhase(outcome)


@pytest.mark.parametrize("desired", ["Stop", "Kill"])
def test_an_item_that_somebody_asked_to_stop_is_not_retried(desired: str) -> None:
    assert conclude(an_item(limit=5, desired=desired), a_report(), NOW).phase == "Failed"


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_DEFINITION, Reason.INVALID_ARGUMENTS])
def test_what_can_never_succeed_is_not_retried(reason: Reason) -> None:
    assert conclude(an_item(limit=5), a_report(reason=reason), NOW).phase == "Failed"


def test_a_late_success_replaces_lost_under_the_same_token() -> None:
    status = conclude(an_item(phase="Lost"), a_report(Outcome.SUCCEEDED, Reason.COMPLETED), NOW)
    assert status.phase == "Succeeded"


def test_a_late_failure_does_not_reopen_a_lost_item() -> None:
    assert conclude(an_item(phase="Lost", limit=5), a_report(), NOW).phase == "Failed"


def test_a_late_success_is_taken_while_the_retry_still_waits() -> None:
    status = conclude(an_item(phase="Pending", limit=5), a_report(Outcome.SUCCEEDED, Reason.COMPLETED), NOW)
    assert (status.phase, status.retry_at) == ("Succeeded", None)


def test_backoff_doubles_up_to_an_hour() -> None:
    assert [backoff(10, attempt).total_seconds() for attempt in (1, 2, 3)] == [10, 20, 40]
    assert backoff(10, 100) == MAX_BACKOFF
