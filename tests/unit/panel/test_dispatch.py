from typing import Any

import pytest

from kuberpa.activity import ActivityItem
from kuberpa_panel.core.dispatch import Baseline, Forgotten, Held, Hold, Kill, Start, Stop, after, decide

BASELINE = Baseline(version=100, on_robot=frozenset())


def item(
    phase: str = "Assigned", *, token: int = 1, version: int = 101, desired: str = "Run", **status: Any
) -> ActivityItem:
    return ActivityItem.of(
        {
            "metadata": {"uid": "u", "name": "i", "namespace": "n", "resourceVersion": str(version)},
            "spec": {"robotRef": {"name": "r"}, "def": "os.command", "desiredState": desired},
            "status": {"phase": phase, "lease": {"token": token, "holder": "pod"}, "robot": "r", **status},
        }
    )


def commands(
    *items: ActivityItem, held: dict[Any, Held] | None = None, gone: frozenset[str] = frozenset(), **options: Any
) -> tuple[Any, ...]:
    known = {each.metadata.uid: each for each in items}
    return decide(items, held or {}, known.get, gone.__contains__, options.get("baseline", BASELINE))


def test_an_assigned_item_is_started_once() -> None:
    assigned = item()
    (command,) = commands(assigned)
    assert command == Start(assigned)
    assert commands(assigned, held={("u", 1): after(None, command)}) == ()


def test_a_reading_from_before_the_connection_starts_nothing_unless_the_fresh_list_has_it() -> None:
    stale = item(version=99)
    assert commands(stale) == ()
    listed = Baseline(version=100, on_robot=frozenset({("u", 1)}))
    assert commands(stale, baseline=listed) == (Start(stale),)


def test_what_is_over_on_the_agent_is_not_started_again_however_late_the_cache_is() -> None:
    assert commands(item(), held={("u", 1): Held(Hold.OVER)}) == ()
    assert commands(item(desired="Kill"), held={("u", 1): Held(Hold.OVER)}) == ()


@pytest.mark.parametrize("phase", ["Assigned", "Running", "Stopping"])
def test_a_stop_is_sent_once_whatever_the_phase(phase: str) -> None:
    running = {("u", 1): Held(Hold.RUNNING)}
    (command,) = commands(item(phase, desired="Stop"), held=running)
    assert command == Stop(("u", 1), 30)
    assert commands(item(phase, desired="Stop"), held={("u", 1): after(running["u", 1], command)}) == ()


def test_a_kill_follows_a_stop() -> None:
    stopped = {("u", 1): Held(Hold.RUNNING, stop_sent=True)}
    (command,) = commands(item("Stopping", desired="Kill"), held=stopped)
    assert command == Kill(("u", 1))
    assert commands(item("Stopping", desired="Kill"), held={("u", 1): after(stopped["u", 1], command)}) == ()


def test_an_assigned_item_that_should_stop_is_not_started() -> None:
    assert commands(item(desired="Stop")) == (Stop(("u", 1), 30),)
    assert commands(item(desired="Kill")) == (Kill(("u", 1)),)


def test_a_running_item_that_the_agent_does_not_know_is_forgotten_work() -> None:
    running = item("Running")
    assert commands(running) == (Forgotten(running),)


def test_a_run_whose_item_has_gone_is_killed_and_one_that_is_only_not_seen_yet_is_not() -> None:
    held = {("x", 1): Held(Hold.RUNNING)}
    assert commands(held=held) == ()
    assert commands(held=held, gone=frozenset({"x"})) == (Kill(("x", 1)),)


def test_a_run_under_an_older_token_is_killed() -> None:
    newer = item(token=2)
    held = {("u", 1): Held(Hold.RUNNING), ("u", 2): Held(Hold.SENT)}
    assert commands(newer, held=held) == (Kill(("u", 1)),)


def test_a_run_of_an_item_taken_for_lost_goes_on_because_its_report_still_counts() -> None:
    assert commands(item("Lost"), held={("u", 1): Held(Hold.RUNNING)}) == ()


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed", "Stopped", "Killed", "Expired", "Lost"])
def test_an_item_that_is_not_on_its_robot_gets_no_command(phase: str) -> None:
    assert commands(item(phase)) == ()
