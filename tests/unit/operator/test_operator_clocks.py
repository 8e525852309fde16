"""Schedules when the clock jumps: set back, set forward, stopped with its machine, or moved over a night's change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.operator import START, Simulation

from kuberpa_operator.queue import LONGEST_NAP, WorkQueue

ACTION = {"activity": {"spec": {"robotRef": {"name": "invoices"}, "def": "os.command"}}}
MINUTE = timedelta(minutes=1)


async def schedule(sim: Simulation, text: str = "* * * * *", **spec: Any) -> None:
    body = {"schedules": [text], "action": ACTION, "concurrencyPolicy": "Allow", **spec}
    await sim.create("schedules", "nightly", body)


async def fired(sim: Simulation) -> list[datetime]:
    items = [await sim.get("activityitems", name) for name in await sim.names("activityitems")]
    return sorted(datetime.fromisoformat(item["metadata"]["annotations"]["kuberpa.dev/scheduled-at"]) for item in items)


async def jump(sim: Simulation, by: timedelta) -> None:
    """The clock shows another time; nothing else has happened meanwhile."""
    sim.clock.at += by
    await sim.settle()


async def test_a_clock_that_is_set_back_fires_nothing_twice(sim: Simulation) -> None:
    await schedule(sim)
    await sim.pass_time(180)
    await jump(sim, -timedelta(minutes=30))
    await sim.pass_time(1790, step=10)
    assert await fired(sim) == [START + n * MINUTE for n in (1, 2, 3)]
    await sim.pass_time(70, step=10)
    assert await fired(sim) == [START + n * MINUTE for n in (1, 2, 3, 4)]


async def test_a_clock_that_is_set_forward_is_an_outage_of_that_length(sim: Simulation) -> None:
    await schedule(sim, catchUp={"policy": "All", "maxRuns": 2})
    await sim.pass_time(60)
    await jump(sim, timedelta(hours=2))
    # of those in between the two latest run, and the one that is due right now
    assert await fired(sim) == [START + n * MINUTE for n in (1, 119, 120, 121)]
    entries = (await sim.status("schedules", "nightly"))["firings"]
    assert sum(entry["count"] for entry in entries if entry["outcome"] == "Missed") + len(await fired(sim)) <= 121
    assert any(entry["outcome"] == "Missed" for entry in entries)


async def test_a_clock_that_was_a_year_ahead_for_a_moment_stops_nothing_that_has_not_fired(sim: Simulation) -> None:
    await schedule(sim, "0 9 * * *")
    sim.clock.at += timedelta(minutes=30)  # nobody looks while it is ahead
    sim.clock.at -= timedelta(minutes=30)
    await sim.pass_time(3600, step=60)
    assert await fired(sim) == [START + timedelta(hours=1)]


@given(jumps=st.lists(st.integers(-180, 180), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
async def test_whatever_the_clock_does_no_instant_fires_twice_and_none_early(jumps: list[int]) -> None:
    sim = Simulation()
    await sim.lead()
    await schedule(sim, catchUp={"policy": "All", "maxRuns": 1000}, startingDeadlineSeconds=86_400)
    latest = START
    for minutes in jumps:
        await jump(sim, minutes * MINUTE)
        latest = max(latest, sim.clock.at)
        found = await fired(sim)
        assert len(found) == len(set(found))
        # all that some clock has shown to be due since the schedule was made, once
        assert found == [START + n * MINUTE for n in range(1, int((latest - START) / MINUTE) + 1)]


def test_a_sleeping_queue_looks_at_the_clock_again_soon() -> None:
    """Its machine may have been suspended, or its clock set: timers run by another clock."""
    at = datetime(2027, 1, 1, tzinfo=UTC)
    queue = WorkQueue[str](lambda: at)
    queue.wake("nightly", at + timedelta(hours=8))
    assert queue._nap() == LONGEST_NAP <= 5
    at += timedelta(hours=8)
    assert queue._nap() == 0.0
    queue._ring()
    assert len(queue) == 1


@pytest.mark.parametrize(
    ("zone", "text", "since", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", datetime(2026, 3, 29, 0, 50, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (
            "Europe/Berlin",
            "30 2 * * *",
            datetime(2026, 10, 25, 0, 20, tzinfo=UTC),
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),
        ("Etc/UTC", "0 0 29 2 *", datetime(2028, 2, 28, 23, 50, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC)),
        ("Etc/UTC", "0 0 1 1 *", datetime(2026, 12, 31, 23, 50, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
    ids=["spring", "autumn", "leap day", "year end"],
)
async def test_a_night_of_changes_fires_once(
    sim: Simulation, zone: str, text: str, since: datetime, expected: datetime
) -> None:
    sim.clock.at = since
    sim.start()
    await sim.lead()
    await schedule(sim, text, timeZone=zone)
    await sim.pass_time(3 * 3600, step=60)
    assert await fired(sim) == [expected]
