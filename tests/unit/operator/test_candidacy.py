"""The elector's thread over a Lease in memory, beside a loop that the test keeps busy."""

import asyncio
import threading
from typing import Any

import pytest
from tests.support.operator import ManualClock

from kuberpa.client import LEASES, Resource, UnavailableError
from kuberpa_operator.adapters.candidacy import Candidacy, Won
from kuberpa_operator.adapters.clock import BootClock
from kuberpa_operator.adapters.elector import LEASE_NAME, Elector
from kuberpa_operator.adapters.memory import MemoryApi

HOME = "kuberpa-system"


class Connection(MemoryApi):
    """An API server that counts renewals, and says when there were enough."""

    def __init__(self, enough: int = 3) -> None:
        super().__init__(ManualClock())
        self.renewals, self.enough, self.renewed = 0, enough, threading.Event()

    async def replace(self, resource: Resource, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        self.renewals += 1
        if self.renewals == self.enough:
            self.renewed.set()
        return await super().replace(resource, namespace, body)

    async def close(self) -> None:
        """Nothing to close."""


class Process:
    """What a process has around its candidacy."""

    def __init__(self, connection: Connection, look_every: float = 0.5) -> None:
        self.connection, self.gave_up, self.over = connection, list[str](), threading.Event()
        self.led_in: asyncio.Future[asyncio.AbstractEventLoop] = asyncio.get_running_loop().create_future()
        self.candidacy = Candidacy(
            self.connect,  # type: ignore[arg-type]
            self.elect,  # type: ignore[arg-type]
            self.won,
            self.lost,
            look_every,
        )
        self.work = asyncio.create_task(self.candidacy.run())

    async def connect(self) -> Connection:
        return self.connection

    def elect(self, connection: Connection, won: Won) -> Elector:
        return Elector(connection, BootClock(), HOME, "me", won, self.lost, renew_every=0.001)  # type: ignore[arg-type]

    async def won(self) -> None:
        self.led_in.set_result(asyncio.get_running_loop())

    def lost(self, why: str) -> None:
        self.gave_up.append(why)
        self.over.set()


async def test_the_lease_is_renewed_while_the_process_is_busy() -> None:
    process = Process(Connection())
    assert await process.led_in is asyncio.get_running_loop()
    assert process.candidacy.leads()
    process.connection.renewed.clear()
    process.connection.enough = process.connection.renewals + 3
    # this loop does nothing else until the Lease has been renewed three times
    assert process.connection.renewed.wait(30)
    assert process.candidacy.leads()
    await process.candidacy.release()
    await process.work


async def test_a_released_lease_is_free_and_nobody_leads() -> None:
    process = Process(Connection())
    await process.led_in
    await process.candidacy.release()
    await process.work
    assert not process.candidacy.leads()
    assert (await process.connection.get(LEASES, HOME, LEASE_NAME))["spec"]["holderIdentity"] == ""
    assert process.gave_up == []
    await process.candidacy.release()


async def test_a_process_whose_loop_is_stuck_gives_up() -> None:
    process = Process(Connection(), look_every=0.001)
    await process.led_in
    assert process.over.wait(30)
    assert process.gave_up == ["its event loop does not move"]
    await process.work


async def test_what_makes_it_impossible_to_compete_ends_the_process() -> None:
    process = Process(Connection())

    async def refuse() -> Connection:
        raise UnavailableError("no such server")

    process.candidacy.connect = refuse  # type: ignore[assignment]
    with pytest.raises(UnavailableError, match="no such server"):
        await process.work
    await process.candidacy.release()
