"""The elector over a Lease in memory, with a clock that the test moves."""

from datetime import timedelta
from typing import Any

import pytest
from tests.support.operator import ManualClock

from kuberpa.client import LEASES, NotFoundError, UnavailableError
from kuberpa_operator.adapters.elector import LEASE_NAME, LEASE_SECONDS, Elector
from kuberpa_operator.adapters.memory import MemoryApi

HOME = "kuberpa-system"


class Replica:
    """An elector whose attempts the test makes one by one."""

    def __init__(self, api: MemoryApi, clock: ManualClock, name: str) -> None:
        self.gave_up: list[str] = []
        self.clock = clock
        self.elector = Elector(api, clock, HOME, name, self.won, self.gave_up.append)  # type: ignore[arg-type]

    async def won(self) -> None:
        """Nothing to read here."""

    async def attempt(self) -> bool:
        held = await self.elector._attempt()
        if held:
            self.elector._renewed_at = self.elector._observed[1]
        return held


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def api(clock: ManualClock) -> MemoryApi:
    return MemoryApi(clock)


async def spec(api: MemoryApi) -> dict[str, Any]:
    return dict((await api.get(LEASES, HOME, LEASE_NAME))["spec"])


async def test_the_first_one_takes_the_lease(api: MemoryApi, clock: ManualClock) -> None:
    with pytest.raises(NotFoundError):
        await spec(api)
    a = Replica(api, clock, "a")
    assert await a.attempt()
    assert a.elector.leads()
    taken = await spec(api)
    assert (taken["holderIdentity"], taken["leaseDurationSeconds"], taken["leaseTransitions"]) == ("a", 8, 1)


async def test_a_second_one_waits_as_long_as_the_lease_is_renewed(api: MemoryApi, clock: ManualClock) -> None:
    a, b = Replica(api, clock, "a"), Replica(api, clock, "b")
    for _ in range(20):
        assert await a.attempt()
        assert not await b.attempt()
        clock.at += timedelta(seconds=2)


async def test_a_lease_that_stays_unchanged_for_its_duration_is_taken(api: MemoryApi, clock: ManualClock) -> None:
    a, b = Replica(api, clock, "a"), Replica(api, clock, "b")
    await a.attempt()
    assert not await b.attempt()
    clock.at += timedelta(seconds=LEASE_SECONDS)
    assert not await b.attempt()
    clock.at += timedelta(seconds=1)
    assert await b.attempt()
    assert not await a.attempt()


async def test_a_leader_stops_leading_well_before_another_may_begin(api: MemoryApi, clock: ManualClock) -> None:
    a = Replica(api, clock, "a")
    await a.attempt()
    clock.at += timedelta(seconds=5)
    assert a.elector.leads()
    clock.at += timedelta(seconds=1)
    assert not a.elector.leads()


async def test_a_clock_that_is_a_day_off_does_not_matter(api: MemoryApi, clock: ManualClock) -> None:
    a, b = Replica(api, clock, "a"), Replica(api, ManualClock(clock.at + timedelta(days=1)), "b")
    await a.attempt()
    assert not await b.attempt()


async def test_of_two_that_find_it_expired_one_wins(api: MemoryApi, clock: ManualClock) -> None:
    first = Replica(api, clock, "first")
    await first.attempt()
    a, b = Replica(api, clock, "a"), Replica(api, clock, "b")
    for replica in (a, b):
        await replica.attempt()
    clock.at += timedelta(seconds=9)
    seen = await api.get(LEASES, HOME, LEASE_NAME)
    began = clock.monotonic()
    assert await a.elector._write(seen, "first", began)
    assert not await b.elector._write(seen, "first", began)


async def test_a_released_lease_is_free_at_once(api: MemoryApi, clock: ManualClock) -> None:
    a, b = Replica(api, clock, "a"), Replica(api, clock, "b")
    await a.attempt()
    await a.elector.release()
    assert not a.elector.leads()
    assert await b.attempt()


async def test_a_release_never_takes_the_lease_from_another(api: MemoryApi, clock: ManualClock) -> None:
    a, b = Replica(api, clock, "a"), Replica(api, clock, "b")
    await a.attempt()
    await b.attempt()
    clock.at += timedelta(seconds=9)
    await b.attempt()
    await a.elector.release()
    assert (await spec(api))["holderIdentity"] == "b"


async def test_a_release_that_fails_is_no_error(api: MemoryApi, clock: ManualClock) -> None:
    a = Replica(api, clock, "a")
    await a.attempt()
    api.fail = lambda verb, plural: UnavailableError("down")
    await a.elector.release()
    assert not a.elector.leads()


async def test_a_renewal_is_one_request(api: MemoryApi, clock: ManualClock) -> None:
    a = Replica(api, clock, "a")
    await a.attempt()
    asked = list[str]()
    api.fail = lambda verb, plural: asked.append(f"{verb} {plural}")
    for _ in range(3):
        clock.at += timedelta(seconds=2)
        assert await a.attempt()
    assert asked == ["update leases"] * 3


async def test_after_a_failure_the_lease_is_read_before_it_is_written_again(api: MemoryApi, clock: ManualClock) -> None:
    """What failed may have arrived: then the next write at the version known would fail, too, and so on."""
    a = Replica(api, clock, "a")
    await a.attempt()
    known = await api.get(LEASES, HOME, LEASE_NAME)
    await api.replace(LEASES, HOME, known)  # its own write, of which it has not heard
    assert not await a.attempt()
    assert await a.attempt()
    assert a.gave_up == []


async def test_a_leader_tries_again_at_once_as_long_as_its_lease_lasts(api: MemoryApi, clock: ManualClock) -> None:
    a = Replica(api, clock, "a")
    await a.attempt()
    tries = 0

    def down(verb: str, plural: str) -> UnavailableError:
        nonlocal tries
        tries += 1
        clock.at += timedelta(seconds=0.5)
        return UnavailableError(f"{verb} {plural}: down")

    api.fail = down
    await a.elector.run()
    assert tries == 11
    assert a.gave_up == ["the Lease could not be renewed in time"]
