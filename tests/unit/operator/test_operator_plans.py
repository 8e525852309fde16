"""Calendars, pauses, buffers, backfills and sequences through the whole operator, over an API server in memory."""

# length: one simulated operator, and every rule of a plan

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.operator import START, Simulation

from kuberpa.client import ConflictError
from kuberpa.lifecycle import Outcome
from kuberpa.names import timestamp
from kuberpa.reasons import Reason

TEMPLATE = {"spec": {"robotRef": {"name": "invoices"}, "def": "os.command"}}
ACTION = {"activity": TEMPLATE}
MINUTELY = {"schedules": ["* * * * *"], "action": ACTION}


async def schedule(sim: Simulation, **spec: Any) -> None:
    await sim.create("schedules", "nightly", {**MINUTELY, **spec})


async def change(sim: Simulation, **spec: Any) -> None:
    await sim.patch("schedules", "nightly", {"spec": spec})


async def items(sim: Simulation) -> list[dict[str, Any]]:
    found = [await sim.get("activityitems", name) for name in await sim.names("activityitems")]
    return sorted(found, key=lambda item: (at(item), item["metadata"]["creationTimestamp"]))


def at(item: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(item["metadata"]["annotations"]["kuberpa.dev/scheduled-at"])


async def fired(sim: Simulation) -> list[datetime]:
    return sorted(at(item) for item in await items(sim))


async def fates(sim: Simulation) -> list[tuple[str, str, str, int]]:
    """Time, outcome, reason and count of all that status tells."""
    status = await sim.status("schedules", "nightly")
    return [(e["time"][11:16], e["outcome"], e["reason"], e["count"]) for e in status.get("firings", [])]


async def ready(sim: Simulation, kind: str = "schedules", name: str = "nightly") -> tuple[str, str]:
    condition = (await sim.status(kind, name))["conditions"][0]
    return condition["reason"], condition["message"]


def minutes(*numbers: int) -> list[datetime]:
    return [START + timedelta(minutes=number) for number in numbers]


async def finish(sim: Simulation, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    for name in await sim.names("activityitems"):
        if await sim.phase(name) in {"Assigned", "Running"}:
            await sim.finish(name, outcome, Reason.COMPLETED)
    await sim.settle()


# Calendars: START is Monday, 5 January 2026, 08:00 UTC, a holiday in Russia


async def test_a_day_off_is_skipped_and_accounted_for(sim: Simulation) -> None:
    await sim.create("calendars", "ru", {"holidays": {"country": "RU"}})
    await schedule(sim, calendars={"include": ["ru"]}, concurrencyPolicy="Allow")
    await sim.pass_time(180)
    await change(sim, priority=1)
    assert await fired(sim) == []
    assert (await sim.status("schedules", "nightly"))["nextScheduleTimes"][0] == "2026-01-12T00:00:00Z"
    await sim.patch("calendars", "ru", {"spec": {"extraWorkingDays": ["2026-01-05"]}})
    await sim.pass_time(60)
    assert await fired(sim) == minutes(4)
    assert ("08:01", "Skipped", "Excluded", 3) in await fates(sim)


async def test_a_missing_calendar_is_named_and_nothing_fires_until_it_is_there(sim: Simulation) -> None:
    await schedule(sim, calendars={"exclude": ["closed"]}, concurrencyPolicy="Allow")
    await sim.pass_time(120)
    reason, message = await ready(sim)
    assert reason == "CalendarNotFound"
    assert message == "spec.calendars.exclude[0]: there is no Calendar 'closed' in this namespace"
    await sim.create("calendars", "closed", {"holidays": {"dates": ["2026-01-06"]}})
    assert (await ready(sim))[0] == "Scheduled"
    await sim.pass_time(60)
    assert await fired(sim) == minutes(3)


async def test_a_calendar_tells_of_today_and_of_the_next_change(sim: Simulation) -> None:
    spec = {"workingHours": [{"from": "09:00", "to": "18:00"}], "timeZone": "Europe/Berlin"}
    await sim.create("calendars", "office", spec)
    status = await sim.status("calendars", "office")
    assert (status["state"], status["today"]) == ("Working", "2026-01-05")
    assert status["nextChange"] == "2026-01-05T17:00:00Z"
    await sim.pass_time(9 * 3600, step=1800)
    status = await sim.status("calendars", "office")
    assert (status["state"], status["nextChange"]) == ("OffHours", "2026-01-06T08:00:00Z")


async def test_calendars_that_extend_one_another_in_a_circle_are_refused(sim: Simulation) -> None:
    await sim.create("calendars", "a", {"extends": "b"})
    assert (await ready(sim, "calendars", "a")) == (
        "CalendarNotFound",
        "Calendar 'a': spec.extends: there is no Calendar 'b' in this namespace",
    )
    await sim.create("calendars", "b", {"extends": "a"})
    await sim.settle()
    for name, path in (("a", "a → b → a"), ("b", "b → a → b")):
        reason, message = await ready(sim, "calendars", name)
        assert reason == "InvalidCalendar"
        assert path in message
    await schedule(sim, calendars={"include": ["a"]})
    assert (await ready(sim))[0] == "InvalidCalendar"


async def test_a_calendar_that_contradicts_itself_says_on_which_day(sim: Simulation) -> None:
    spec = {"holidays": {"dates": ["2027-03-08"]}, "extraWorkingDays": ["2027-03-08"]}
    await sim.create("calendars", "a", spec)
    reason, message = await ready(sim, "calendars", "a")
    assert reason == "InvalidCalendar"
    assert "spec.extraWorkingDays: 2027-03-08 is a day off in spec.holidays too" in message
    assert ("Warning", "InvalidCalendar") in await sim.events()


# Other plans


async def test_every_at_and_rrule_fire_beside_cron(sim: Simulation) -> None:
    await schedule(
        sim,
        schedules=["1 8 * * *"],
        every={"interval": "10m"},
        at=["2026-01-05T08:03:00Z"],
        rrule="DTSTART:20260105T080500 RRULE:FREQ=DAILY",
        concurrencyPolicy="Allow",
    )
    await sim.pass_time(660, step=30)
    assert await fired(sim) == minutes(1, 3, 5, 10)


async def test_a_plan_that_has_ended_says_so(sim: Simulation) -> None:
    await schedule(sim, schedules=[], at=["2026-01-05T08:01:00Z"])
    await sim.pass_time(61)
    assert await fired(sim) == minutes(1)
    assert (await ready(sim))[0] == "PlanCompleted"


async def test_jitter_delays_a_firing_by_the_same_time_whoever_leads(sim: Simulation) -> None:
    await schedule(sim, jitterSeconds=50, concurrencyPolicy="Allow")
    announced = datetime.fromisoformat((await sim.status("schedules", "nightly"))["nextScheduleTimes"][0])
    assert minutes(1)[0] < announced < minutes(2)[0]
    await sim.pass_time((announced - START).total_seconds() - 1)
    assert await fired(sim) == []
    await sim.pass_time(1)
    assert await fired(sim) == minutes(1)


# Concurrency


async def test_buffer_one_runs_one_that_waited_and_skips_the_others(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim, concurrencyPolicy="BufferOne")
    await sim.pass_time(180)
    assert await fired(sim) == minutes(1)
    await finish(sim)
    assert await fired(sim) == minutes(1, 2)
    assert await fates(sim) == [
        ("08:01", "Ran", "Fired", 1),
        ("08:02", "Buffered", "StillRunning", 1),
        ("08:03", "Skipped", "BufferFull", 1),
        ("08:02", "Ran", "Buffered", 1),
    ]


async def test_buffer_all_runs_them_in_order_up_to_its_limit(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim, concurrencyPolicy="BufferAll", bufferLimit=2)
    await sim.pass_time(240)
    assert [entry["time"][11:16] for entry in (await sim.status("schedules", "nightly"))["buffer"]] == [
        "08:02",
        "08:03",
    ]
    for _ in range(3):
        await finish(sim)
    assert await fired(sim) == minutes(1, 2, 3)
    assert ("08:04", "Skipped", "BufferFull", 1) in await fates(sim)


async def test_replace_force_kills_the_earlier_run(sim: Simulation) -> None:
    await sim.robot("invoices", concurrency=2)
    await schedule(sim, concurrencyPolicy="ReplaceForce")
    await sim.pass_time(120)
    assert [item["spec"]["desiredState"] for item in await items(sim)] == ["Kill", "Run"]
    assert ("08:01", "Replaced", "Replaced", 1) in await fates(sim)


async def test_limits_from_the_start_are_given_to_the_item(sim: Simulation) -> None:
    await schedule(sim, stopAfterSeconds=60, killAfterSeconds=70)
    await sim.pass_time(60)
    spec = (await items(sim))[0]["spec"]
    assert (spec["timeoutSeconds"], spec["stop"]) == (60, {"gracePeriodSeconds": 10})


# By hand


async def test_run_now_fires_once_for_each_value_also_while_paused(sim: Simulation) -> None:
    await schedule(sim, suspend=True)
    await change(sim, runNow="2026-01-05T08:00:00Z")
    await sim.pass_time(30)
    assert len(await items(sim)) == 1
    assert (await items(sim))[0]["metadata"]["annotations"]["kuberpa.dev/cause"] == "Manual"
    await sim.create("robots", "invoices", {"runtime": {"linuxPod": {}}})
    await change(sim, runNow="2026-01-05T08:00:20Z", concurrencyPolicy="Allow")
    assert len(await items(sim)) == 2


async def test_run_now_obeys_the_concurrency_policy(sim: Simulation) -> None:
    await schedule(sim)
    await sim.pass_time(60)
    await change(sim, runNow="2026-01-05T08:01:30Z")
    assert len(await items(sim)) == 1
    assert ("08:01", "Skipped", "StillRunning", 1) in await fates(sim)


async def test_a_pause_with_an_end_resumes_by_itself_and_skips_what_fell_into_it(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Allow")
    await sim.pass_time(60)
    await change(sim, pause={"note": "bank closed", "until": timestamp(minutes(3)[0] + timedelta(seconds=30))})
    assert await ready(sim) == ("Paused", "bank closed")
    await sim.pass_time(200)
    assert await fired(sim) == minutes(1, 4)
    assert ("08:02", "Skipped", "Paused", 2) in await fates(sim)


async def test_a_failure_pauses_until_somebody_resumes(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim, pauseOnFailure=True, concurrencyPolicy="Allow")
    await sim.pass_time(60)
    await finish(sim, Outcome.FAILED)
    await sim.pass_time(90)
    reason, message = await ready(sim)
    assert reason == "PausedOnFailure"
    assert message.endswith("to resume set spec.resumedAt to the present time")
    assert await fired(sim) == minutes(1)
    await change(sim, resumedAt=timestamp(sim.clock.now()))
    await sim.pass_time(60)
    assert await fired(sim) == minutes(1, 3)


async def test_a_backfill_makes_up_for_a_range_one_after_the_other(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim, schedules=["0 * * * *"])
    await change(sim, backfill={"from": "2026-01-05T04:00:00Z", "to": "2026-01-05T06:00:00Z"})
    for count in (1, 2, 3):
        assert len(await items(sim)) == count
        await finish(sim)
    assert [when.hour for when in await fired(sim)] == [4, 5, 6]
    status = await sim.status("schedules", "nightly")
    assert (status["backfill"]["ran"], status["backfill"]["done"]) == (3, True)
    await sim.pass_time(60)
    assert len(await items(sim)) == 3


async def test_a_backfill_with_another_id_starts_over(sim: Simulation) -> None:
    await schedule(sim, schedules=["0 * * * *"], concurrencyPolicy="Allow")
    span = {"from": "2026-01-05T04:00:00Z", "to": "2026-01-05T06:00:00Z"}
    await change(sim, backfill=span)
    await change(sim, backfill={**span, "id": "again"})
    assert [when.hour for when in await fired(sim)] == [4, 4, 5, 5, 6, 6]


# Sequences


@pytest.mark.parametrize(("on_failure", "steps"), [("Stop", 2), ("Continue", 3)])
async def test_a_sequence_goes_step_by_step_and_past_a_failure_only_when_told(
    sim: Simulation, on_failure: str, steps: int
) -> None:
    await sim.robot("invoices")
    sequence = {"steps": [TEMPLATE] * 3, "onFailure": on_failure}
    await schedule(sim, schedules=["1 8 * * *"], action={"sequence": sequence})
    await sim.pass_time(60)
    assert len(await items(sim)) == 1
    await finish(sim)
    assert len(await items(sim)) == 2
    await finish(sim, Outcome.FAILED)
    assert len(await items(sim)) == steps
    await finish(sim)
    assert (await sim.status("schedules", "nightly"))["sequences"] == []


async def test_a_sequence_under_way_counts_as_running(sim: Simulation) -> None:
    await sim.robot("invoices")
    await schedule(sim, action={"sequence": {"steps": [TEMPLATE] * 2}})
    await sim.pass_time(60)
    await finish(sim)
    await sim.pass_time(60)
    assert await fired(sim) == minutes(1, 1)
    assert ("08:02", "Skipped", "StillRunning", 1) in await fates(sim)


# The account


async def test_no_entry_is_lost_while_the_history_is_not_stored(sim: Simulation) -> None:
    await schedule(sim, schedules=["* * * * * *"])
    await sim.pass_time(300)
    status = await sim.status("schedules", "nightly")
    assert len(status["firings"]) <= 100
    assert sum(entry["count"] for entry in status["firings"]) == 300
    assert status["firings"][-1]["sequence"] == status["firingCount"] == 300


async def test_stored_entries_go_but_the_last_ones(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Allow")
    await sim.pass_time(1200, step=60)
    await sim.patch("schedules", "nightly", {"status": {"history": {"through": 20}}}, subresource="status")
    await sim.pass_time(60)
    sequences = [entry["sequence"] for entry in (await sim.status("schedules", "nightly"))["firings"]]
    assert sequences == list(range(12, 22))


# Robots and queues


ORDER = {"selector": {"matchLabels": {"team": "a"}}, "state": "Stopped"}


async def states(sim: Simulation) -> dict[str, str]:
    return {
        name: (await sim.get("robots", name))["spec"].get("desiredState", "Running")
        for name in await sim.names("robots")
    }


async def team(sim: Simulation) -> None:
    spec: dict[str, Any] = {"runtime": {"linuxPod": {}}}
    await sim.create("robots", "r1", spec, labels={"team": "a"})
    await sim.create("robots", "r2", {**spec, "control": "Manual"}, labels={"team": "a"})
    await sim.create("robots", "other", spec, labels={"team": "b"})


async def test_robots_are_put_into_a_state_but_for_those_under_manual_control(sim: Simulation) -> None:
    await team(sim)
    await schedule(sim, schedules=["1 8 * * *"], action={"robotState": {**ORDER, "mode": "Force"}})
    await sim.pass_time(60)
    assert await states(sim) == {"r1": "Stopped", "r2": "Running", "other": "Running"}
    assert (await sim.get("robots", "r1"))["spec"]["stop"] == {"mode": "Force"}
    told = (await sim.status("schedules", "nightly"))["firings"][-1]
    assert told["message"] == "Stopped: 1 of 2 robots; left alone under control Manual: r2"


async def test_robots_run_during_some_hours_and_are_stopped_otherwise(sim: Simulation) -> None:
    await team(sim)
    order = {**ORDER, "state": "Running", "during": {"from": "08:00", "to": "08:10"}, "otherwise": "Stopped"}
    await schedule(sim, schedules=[], every={"interval": "1m"}, action={"robotState": order})
    await sim.patch("robots", "r1", {"spec": {"desiredState": "Stopped"}})
    await sim.pass_time(60)
    assert (await states(sim))["r1"] == "Running"
    await sim.pass_time(600, step=30)
    assert (await states(sim))["r1"] == "Stopped"
    before = len(sim.api.requests)
    await sim.pass_time(120, step=30)
    assert not [entry for entry in sim.api.requests[before:] if entry[1] == "robots"]


async def test_a_restart_is_known_by_its_instant(sim: Simulation) -> None:
    await team(sim)
    await schedule(sim, schedules=["1 8 * * *"], action={"robotState": {**ORDER, "state": "Restarted"}})
    await sim.pass_time(60)
    annotations = (await sim.get("robots", "r1"))["metadata"]["annotations"]
    assert annotations["kuberpa.dev/restarted-at"] == "2026-01-05T08:01:00Z"


QUEUED = {"queueItem": {"queueRef": {"name": "invoices"}, "payload": {"a": 1}}}


async def test_work_items_are_left_in_status_until_the_panel_has_added_them(sim: Simulation) -> None:
    await schedule(sim, action=QUEUED)
    await sim.pass_time(120)
    status = await sim.status("schedules", "nightly")
    assert [(item["number"], item["time"][11:16]) for item in status["queueItems"]] == [(1, "08:01"), (2, "08:02")]
    assert len({item["key"] for item in status["queueItems"]}) == 2
    history = {"queueItems": 2, "refused": [{"number": 2, "message": "queue invoices: no"}]}
    await sim.patch("schedules", "nightly", {"status": {"history": history}}, subresource="status")
    await sim.pass_time(1)
    status = await sim.status("schedules", "nightly")
    assert (status["queueItems"], status["queueItemCount"]) == ([], 2)
    assert (await fates(sim))[-1] == ("08:02", "Missed", "QueueRefused", 1)
    assert ("Warning", "QueueRefused") in await sim.events()


async def test_no_more_work_items_wait_than_a_status_may_hold(sim: Simulation) -> None:
    await schedule(sim, schedules=["* * * * * *"], action=QUEUED)
    await sim.pass_time(110)
    status = await sim.status("schedules", "nightly")
    assert len(status["queueItems"]) == 100
    assert sum(entry["count"] for entry in status["firings"]) == 110
    assert ("Skipped", "BufferFull") in {fate[1:3] for fate in await fates(sim)}


async def test_a_calendar_whose_status_was_not_taken_is_read_again(sim: Simulation) -> None:
    refusing = [True]
    error = ConflictError("it has moved", status=409, reason="Conflict")
    sim.api.fail = lambda verb, plural: (
        error if (verb, plural) == ("patch", "calendars") and refusing and refusing.pop() else None
    )
    await sim.create("calendars", "office", {})
    assert not refusing
    assert (await sim.status("calendars", "office"))["state"] == "Working"


async def test_a_pause_that_nobody_was_there_to_see_is_kept_with_its_note(sim: Simulation) -> None:
    await schedule(sim, concurrencyPolicy="Allow")
    await sim.reconciler.drain(0)
    sim.api.watchers.clear()
    pause = {"note": "bank closed", "until": "2026-01-05T08:03:30Z"}
    await sim.patch("schedules", "nightly", {"spec": {"pause": pause}})
    sim.clock.at = START + timedelta(minutes=5)
    sim.start()
    await sim.lead()
    await sim.settle()
    entries = (await sim.status("schedules", "nightly"))["firings"]
    skipped = [entry for entry in entries if entry["reason"] == "Paused"]
    assert [(entry["count"], entry["message"]) for entry in skipped] == [(3, "bank closed")]
    assert await fired(sim) == minutes(5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedules": ["0 9 * * 1-5", "@daily"]}, "0 9 * * 1-5, @daily"),
        ({"every": {"interval": "15m"}}, "every 15m"),
        ({"at": ["2026-01-06T09:00:00Z", "2026-01-07T09:00:00Z"]}, "at 2 instants"),
        ({"rrule": "DTSTART:20270101T090000 RRULE:FREQ=MONTHLY;BYDAY=-1FR"}, "FREQ=MONTHLY;BYDAY=-1FR"),
        ({"schedules": [f"{n} 9 * * *" for n in range(20)]}, "…"),
    ],
)
async def test_status_says_the_plan_in_a_few_words(sim: Simulation, spec: dict[str, Any], words: str) -> None:
    await sim.create("schedules", "nightly", {"action": ACTION, **spec})
    plan = (await sim.status("schedules", "nightly"))["plan"]
    assert plan.endswith(words)
    assert len(plan) <= 100
