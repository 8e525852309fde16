from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kuberpa.activity import INLINE_RESULT_BYTES, MAX_RESULT_BYTES, ActivityItem, ActivityPhase
from kuberpa.lifecycle import Outcome, Report
from kuberpa.reasons import Reason
from kuberpa_panel.core import reports

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
DONE = Report(3, Outcome.SUCCEEDED, Reason.COMPLETED)
FAILED = Report(3, Outcome.FAILED, Reason.NON_ZERO_EXIT, "exit code 1")


def item(phase: str = "Running", *, retries: int = 0, desired: str = "Run", **status: Any) -> ActivityItem:
    return ActivityItem.of(
        {
            "metadata": {"uid": "u", "name": "i", "namespace": "n"},
            "spec": {"robotRef": {"name": "r"}, "def": "d", "retry": {"limit": retries}, "desiredState": desired},
            "status": {"phase": phase, "attempt": 1, "lease": {"token": 3, "holder": "pod"}, "robot": "r"} | status,
        }
    )


def test_a_final_report_says_when_it_was_archived_and_a_retry_does_not() -> None:
    final = reports.settle(item(), DONE, NOW, NOW + timedelta(seconds=1))
    assert isinstance(final, reports.Concluded)
    assert (final.status.finished_at, final.status.archived_at) == (NOW, NOW + timedelta(seconds=1))
    retried = reports.settle(item(retries=1), FAILED, NOW, NOW)
    assert isinstance(retried, reports.Concluded)
    assert (retried.status.phase, retried.status.archived_at) == ("Pending", None)


def test_a_report_is_late_for_an_item_that_is_gone_newer_or_ended_otherwise() -> None:
    assert isinstance(reports.settle(None, DONE, NOW, NOW), reports.Late)
    newer = item(lease={"token": 4, "holder": "pod"})
    assert isinstance(reports.settle(newer, DONE, NOW, NOW), reports.Late)
    assert isinstance(reports.settle(item("Killed"), DONE, NOW, NOW), reports.Late)


def test_a_report_that_was_taken_before_is_a_repetition() -> None:
    taken = item("Succeeded", archivedAt=NOW.isoformat())
    assert reports.settle(taken, DONE, NOW, NOW) == reports.Repeated()


def test_the_message_of_a_retry_never_outgrows_the_schema() -> None:
    verdict = reports.settle(item(retries=1), Report(3, Outcome.FAILED, Reason.NON_ZERO_EXIT, "x" * 4096), NOW, NOW)
    assert isinstance(verdict, reports.Concluded)
    assert len(verdict.status.message) == 4096


def test_started_moves_only_an_assigned_item_of_the_same_token() -> None:
    begun = reports.started(item("Assigned"), 3, NOW)
    assert begun is not None
    assert (begun.phase, begun.started_at) == ("Running", NOW)
    assert reports.started(item("Assigned"), 2, NOW) is None
    assert reports.started(item("Succeeded"), 3, NOW) is None


def test_started_while_stopping_keeps_the_phase_and_notes_the_time() -> None:
    stopping = reports.started(item("Stopping"), 3, NOW)
    assert stopping is not None
    assert (stopping.phase, stopping.started_at) == ("Stopping", NOW)


def test_a_hand_back_keeps_the_count_of_attempts() -> None:
    back = reports.handed_back(item("Assigned"), 3, "full")
    assert back is not None
    assert (back.phase, back.reason, back.attempt, back.message) == ("Pending", "HandedBack", 1, "full")
    assert reports.handed_back(item("Running"), 3, "full") is None


@pytest.mark.parametrize(("desired", "outcome"), [("Stop", Outcome.STOPPED), ("Kill", Outcome.KILLED)])
def test_a_refusal_of_what_should_end_anyway_ends_it(desired: str, outcome: Outcome) -> None:
    report = reports.refusal(item("Stopping", desired=desired), 3, Reason.ROBOT_BUSY, "full")
    assert report.outcome is outcome


def test_a_refusal_for_another_reason_fails_the_attempt() -> None:
    report = reports.refusal(item("Assigned"), 3, Reason.UNKNOWN_DEFINITION, "no such")
    assert (report.outcome, report.reason) == (Outcome.FAILED, Reason.UNKNOWN_DEFINITION)


def test_results_are_inline_then_by_reference_then_too_large() -> None:
    small = reports.with_result(DONE, 1, b"1", "/p")
    assert (small.result, small.result_ref) == (1, None)
    large = reports.with_result(DONE, "x", b"x" * (INLINE_RESULT_BYTES + 1), "/p")
    assert large.result is None
    assert large.result_ref is not None
    assert large.result_ref.path == "/p"
    huge = reports.with_result(DONE, "x", b"x" * (MAX_RESULT_BYTES + 1), "/p")
    assert (huge.outcome, huge.reason) == (Outcome.FAILED, Reason.RESULT_TOO_LARGE)


def test_a_patch_tests_item_phase_and_token_and_changes_only_what_differs() -> None:
    running = item(error={"type": "E"})
    done = running.status.model_copy(update={"phase": ActivityPhase.SUCCEEDED, "error": None})
    assert reports.operations(running, done) == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/status/phase", "value": "Running"},
        {"op": "test", "path": "/status/lease/token", "value": 3},
        {"op": "add", "path": "/status/phase", "value": "Succeeded"},
        {"op": "remove", "path": "/status/error"},
    ]


def test_an_agent_speaks_only_for_what_it_holds() -> None:
    mine = item()
    assert reports.belongs(mine, "n", "r", "pod", 3)
    assert not reports.belongs(mine, "n", "r", "other-pod", 3)
    assert not reports.belongs(mine, "other", "r", "pod", 3)
    assert not reports.belongs(mine, "n", "r", "pod", 4)
    assert reports.belongs(mine, "n", "other", "other-pod", 2)


def test_times_are_the_panels_and_never_before_the_assignment_or_in_the_future() -> None:
    assigned = NOW - timedelta(seconds=10)
    began, ended = reports.span(NOW, 2, 3, assigned)
    assert (began, ended) == (NOW - timedelta(seconds=5), NOW - timedelta(seconds=2))
    assert reports.span(NOW, 0, 3600, assigned) == (assigned, NOW)


def test_the_end_without_payload_keeps_the_phase() -> None:
    status = item("Failed", error={"type": "E"}, result={"a": 1}, message="why").status
    plain = reports.without_payload(status)
    assert (plain.phase, plain.result, plain.error) == ("Failed", None, None)
    assert plain.message.startswith("why")
