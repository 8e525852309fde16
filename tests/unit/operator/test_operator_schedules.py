"""Schedules through the whole operator, over an API server in memory."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.operator import START, Simulation

from kuberpa.client import ForbiddenError
from kuberpa.lifecycle import Outcome
from kuberpa.reasons import Reason

ACTION = {"activity": {"spec": {"robotRef": {"name": "invoices"}, "def": "os.command"}}}


async def schedule(sim: Simulation, text: str = "* * * * *", **spec: Any) -> None:
    meta = {"annotations": {"kuberpa.dev/created-by": "anna", "kuberpa.dev/changed-by": "boris"}}
    await sim.create("schedules", "nightly", {"schedules": [text], "action": ACTION, **spec}, **meta)


async def fired(sim: Simulation) -> list[datetime]:
    """Nominal instants of all items that exist."""
    items = [await sim.get("activityitems", name) for name in await sim.names("activityitems")]
    return sorted(datetime.fromisoformat(item["metadata"]["annotations"]["kuberpa.dev/scheduled-at"]) for item in items)


async def missed(sim: Simulation) -> list[tuple[str, str]]:
    entries = (await sim.status("schedules", "nightly")).get("missed", [])
    return [(entry["time"][11:19], entry["reason"]) for entry in entries]


def minutes(*numbers: int) -> list[datetime]:
    return [START + timedelta(minutes=number) for number in numbers]


async def finish_all(sim: Simulation, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    for name in await sim.names("activityitems"):
        if await sim.phase(name) == "Assigned":
            await sim.finish(name, outcome, Reason.COMPLETED)


async def outage(sim: Simulation, seconds: float) -> None:
    """The operator is down for a while, and another one takes over."""
    await sim.reconciler.drain(0)
    sim.api.watchers.clear()
    sim.clock.at += timedelta(seconds=seconds)
    sim.start()
    await sim.lead()
    await sim.settle()


async def test_it_fires_at_each_instant_after_its_creation(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Allow")
    await sim.pass_time(180)
    assert await fired(sim) == minutes(1, 2, 3)
    status = await sim.status("schedules", "nightly")
    assert status["lastScheduleTime"] == "2026-01-05T08:03:00Z"
    assert [at[11:16] for at in status["nextScheduleTimes"]] == ["08:04", "08:05", "08:06", "08:07", "08:08"]


async def test_a_firing_is_marked_and_owned(sim: Simulation) -> None:
    await schedule(sim)
    await sim.pass_time(60)
    item = await sim.get("activityitems", (await sim.names("activityitems"))[0])
    parent = await sim.get("schedules", "nightly")
    assert item["metadata"]["labels"] == {"kuberpa.dev/schedule": "nightly"}
    assert item["metadata"]["annotations"] == {
        "kuberpa.dev/scheduled-at": "2026-01-05T08:01:00Z",
        "kuberpa.dev/on-behalf-of": "boris",
    }
    assert item["metadata"]["ownerReferences"][0]["uid"] == parent["metadata"]["uid"]


async def test_seconds_are_met(sim: Simulation) -> None:
    await schedule(sim, "*/2 * * * * *", concurrencyPolicy="Allow")
    await sim.pass_time(10)
    assert await fired(sim) == [START + timedelta(seconds=n) for n in (2, 4, 6, 8, 10)]


async def test_forbid_skips_what_falls_into_a_run_and_says_so(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim)
    await sim.pass_time(180)
    assert await fired(sim) == minutes(1)
    assert await missed(sim) == [("08:02:00", "StillRunning"), ("08:03:00", "StillRunning")]
    await finish_all(sim)
    await sim.pass_time(60)
    assert await fired(sim) == minutes(1, 4)


async def test_allow_runs_side_by_side(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim, concurrencyPolicy="Allow")
    await sim.pass_time(121)
    active = (await sim.status("schedules", "nightly"))["active"]
    assert [entry["scheduledAt"][11:16] for entry in active] == ["08:01", "08:02"]


async def test_replace_stops_the_earlier_run(sim: Simulation) -> None:
    await sim.robot("invoices", concurrency=2)
    await schedule(sim, concurrencyPolicy="Replace")
    await sim.pass_time(120)
    items = [await sim.get("activityitems", name) for name in await sim.names("activityitems")]
    by_time = sorted(items, key=lambda item: item["metadata"]["annotations"]["kuberpa.dev/scheduled-at"])
    assert [item["status"]["phase"] for item in by_time] == ["Stopping", "Assigned"]


async def test_nothing_fires_while_suspended_nor_afterwards_for_that_time(sim: Simulation) -> None:
    await schedule(sim, suspend=True, concurrencyPolicy="Allow")
    await sim.pass_time(120)
    status = await sim.status("schedules", "nightly")
    assert (status["conditions"][0]["reason"], status.get("nextScheduleTimes")) == ("Suspended", [])
    await sim.patch("schedules", "nightly", {"spec": {"suspend": False}})
    await sim.pass_time(60)
    assert await fired(sim) == minutes(3)


async def test_a_changed_expression_does_not_fire_the_past(sim: Simulation) -> None:
    await schedule(sim, "0 9 * * *", concurrencyPolicy="Allow")
    await sim.pass_time(150)
    await sim.patch("schedules", "nightly", {"spec": {"schedules": ["* * * * *"]}})
    assert await fired(sim) == []
    await sim.pass_time(30)
    assert await fired(sim) == minutes(3)


async def test_another_change_of_spec_loses_no_instant(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Allow")
    await sim.pass_time(59)
    sim.clock.at += timedelta(seconds=2)
    await sim.patch("schedules", "nightly", {"spec": {"historyLimits": {"succeeded": 1, "failed": 1}}})
    assert await fired(sim) == minutes(1)


@pytest.mark.parametrize(
    ("policy", "instants", "reasons"),
    [
        ({"policy": "None"}, (), ["MissedByPolicy"] * 5),
        ({"policy": "Latest"}, (5,), ["MissedByPolicy"] * 4),
        ({"policy": "All"}, (1, 2, 3, 4, 5), []),
        ({"policy": "All", "maxRuns": 2}, (4, 5), ["MissedByPolicy"] * 3),
    ],
)
async def test_instants_of_an_outage_are_caught_up_by_policy(
    sim: Simulation, policy: dict[str, Any], instants: tuple[int, ...], reasons: list[str]
) -> None:
    await schedule(sim, concurrencyPolicy="Allow", catchUp=policy)
    await outage(sim, 330)
    assert await fired(sim) == minutes(*instants)
    assert [reason for _, reason in await missed(sim)] == reasons
    await sim.pass_time(30)
    assert await fired(sim) == minutes(*instants, 6)


async def test_a_short_failover_misses_nothing_whatever_the_policy(sim: Simulation) -> None:
    await schedule(sim, "*/2 * * * * *", concurrencyPolicy="Allow", catchUp={"policy": "None"})
    await outage(sim, 12)
    assert await fired(sim) == [START + timedelta(seconds=n) for n in (2, 4, 6, 8, 10, 12)]


async def test_an_instant_past_its_deadline_is_missed(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Allow", catchUp={"policy": "All"}, startingDeadlineSeconds=100)
    await outage(sim, 250)
    assert await fired(sim) == minutes(3, 4)
    assert await missed(sim) == [("08:01:00", "MissedDeadline"), ("08:02:00", "MissedDeadline")]


async def test_a_hundred_thousand_due_instants_are_decided_at_once_and_explained(sim: Simulation) -> None:
    await schedule(sim, "* * * * * *", concurrencyPolicy="Allow", startingDeadlineSeconds=1_000_000)
    await outage(sim, 100_000)
    on_time = [sim.clock.at - timedelta(seconds=n) for n in range(15, -1, -1)]
    assert await fired(sim) == on_time
    status = await sim.status("schedules", "nightly")
    assert status["missed"][0]["reason"] == "TooManyMissed"
    assert status["lastScheduleTime"] == sim.clock.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ("Warning", "TooManyMissed") in await sim.events()


async def test_a_leader_that_died_between_firing_and_saying_so_fires_once(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Forbid")
    sim.api.fail = lambda verb, plural: (
        ForbiddenError("down", status=403) if (verb, plural) == ("patch", "schedules") else None
    )
    await sim.pass_time(60)
    assert await fired(sim) == minutes(1)
    assert "lastScheduleTime" not in await sim.status("schedules", "nightly")
    sim.api.fail = lambda verb, plural: None
    await outage(sim, 5)
    assert await fired(sim) == minutes(1)
    status = await sim.status("schedules", "nightly")
    assert status["lastScheduleTime"] == "2026-01-05T08:01:00Z"
    assert not status.get("missed")


async def test_an_item_is_not_deleted_before_its_firing_is_recorded(sim: Simulation) -> None:
    await sim.robot("invoices")
    action = {"activity": {"spec": {**ACTION["activity"]["spec"], "ttlSecondsAfterFinished": 0}}}
    await schedule(sim, action=action)
    sim.api.fail = lambda verb, plural: (
        ForbiddenError("down", status=403) if (verb, plural) == ("patch", "schedules") else None
    )
    await sim.pass_time(60)
    await finish_all(sim)
    await sim.pass_time(30)
    assert await fired(sim) == minutes(1)
    sim.api.fail = lambda verb, plural: None
    await sim.pass_time(120, step=5)
    assert minutes(1)[0] not in await fired(sim)


async def test_a_refused_item_is_told_of_and_later_ones_are_tried(sim: Simulation) -> None:
    refusing = [True]
    error = ForbiddenError("boris may not run on robot invoices", status=403)
    sim.api.fail = lambda verb, plural: error if refusing and (verb, plural) == ("create", "activityitems") else None
    await schedule(sim)
    await sim.pass_time(60)
    status = await sim.status("schedules", "nightly")
    assert status["conditions"][0]["reason"] == "CreateRefused"
    assert "boris may not run" in status["conditions"][0]["message"]
    assert await missed(sim) == [("08:01:00", "CreateRefused")]
    refusing.clear()
    await sim.pass_time(60)
    assert await fired(sim) == minutes(2)
    assert (await sim.status("schedules", "nightly"))["conditions"][0]["reason"] == "Scheduled"


async def test_history_is_kept_within_its_limits(sim: Simulation) -> None:
    await sim.robot("invoices")
    action = {"activity": {"spec": {**ACTION["activity"]["spec"], "ttlSecondsAfterFinished": 100000}}}
    await schedule(sim, action=action, historyLimits={"succeeded": 2, "failed": 1})
    for number in range(1, 7):
        await sim.pass_time(60)
        await finish_all(sim, Outcome.FAILED if number % 2 else Outcome.SUCCEEDED)
    await sim.pass_time(5)
    assert await fired(sim) == minutes(4, 5, 6)


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"schedules": ["0 9 * * *", "99 * * * *"]}, "InvalidSchedule", "spec.schedules[1]: '99 * * * *'"),
        ({"timeZone": "Mars/Base"}, "InvalidTimeZone", "spec.timeZone: 'Mars/Base'"),
        ({"schedules": ["0 0 30 2 *"]}, "NeverFires", "spec.schedules: no date within 40 years matches '0 0 30 2 *'"),
    ],
)
async def test_a_schedule_that_cannot_fire_says_which_field_is_wrong(
    sim: Simulation, spec: dict[str, Any], reason: str, words: str
) -> None:
    await schedule(sim, **spec) if "schedules" not in spec else await sim.create(
        "schedules", "nightly", {"action": ACTION, **spec}
    )
    condition = (await sim.status("schedules", "nightly"))["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "False", reason)
    assert condition["message"].startswith(words)
    assert ("Warning", reason) in await sim.events()
    await sim.patch("schedules", "nightly", {"spec": {"schedules": ["0 9 * * *"], "timeZone": "Europe/Moscow"}})
    condition = (await sim.status("schedules", "nightly"))["conditions"][0]
    assert (condition["status"], condition["reason"]) == ("True", "Scheduled")


async def test_the_zone_counts(sim: Simulation) -> None:
    await schedule(sim, "0 12 * * *", timeZone="Europe/Moscow")
    assert (await sim.status("schedules", "nightly"))["nextScheduleTimes"][0] == "2026-01-05T09:00:00Z"


async def test_a_quiet_schedule_is_not_written_again(sim: Simulation) -> None:
    await schedule(sim, "0 9 1 * *")
    before = len(sim.api.requests)
    await sim.pass_time(600, step=10)
    assert len(sim.api.requests) == before


async def test_what_is_due_at_once_is_created_before_any_of_it_is_recorded(sim: Simulation) -> None:
    names_ = [f"nightly-{number}" for number in range(5)]
    for name in names_:
        await sim.create("schedules", name, {"schedules": ["0 9 * * *"], "action": ACTION})
    del sim.api.requests[:]
    sim.clock.at = START + timedelta(hours=1)
    await sim.settle()
    written = [f"{verb} {plural}" for verb, plural, _ in sim.api.requests]
    assert written[:5] == ["create activityitems"] * 5
    assert written[5:10] == ["patch schedules/status"] * 5
    for name in names_:
        assert (await sim.status("schedules", name))["lastScheduleTime"] == "2026-01-05T09:00:00Z"
