"""The elector in a thread of its own, with its own event loop and connections.

Nothing that this process does, reads or waits for stands before a renewal then: not sixty-four writes in flight, nor
the list of ten thousand objects. That would also keep the Lease of a process whose own loop is stuck for good, so the
thread asks that loop for a sign of life, and gives up when none comes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Final

from kuberpa.client import Cluster
from kuberpa_operator.adapters.elector import Elector

Won = Callable[[], Coroutine[Any, Any, None]]
LOOK_EVERY: Final = 0.5
SILENT_LOOKS: Final = 40
"""So many looks in a row may find the process's loop silent: 20 s in which this process had the CPU."""


@dataclass(slots=True)
class Candidacy:
    """Competes for the Lease beside the process's own loop, in which `won` is run. `lost` must end the process."""

    connect: Callable[[], Coroutine[Any, Any, Cluster]]
    elect: Callable[[Cluster, Won], Elector]
    """Makes the elector, of its connection and of what to do once the Lease is won."""
    won: Won
    lost: Callable[[str], None]
    look_every: float = LOOK_EVERY
    _elector: Elector | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _over: "Future[None]" = field(default_factory=Future)
    _silent: int = 0

    def leads(self) -> bool:
        """Whether this replica certainly holds the Lease."""
        return self._elector is not None and self._elector.leads()

    async def run(self) -> None:
        """Compete until `release`. Raises what made it impossible."""
        self._loop = asyncio.new_event_loop()
        Thread(target=self._work, args=(self._loop, asyncio.get_running_loop()), name="elector", daemon=True).start()
        await asyncio.shield(asyncio.wrap_future(self._over))

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for it to expire."""
        if self._loop is None or self._over.done():
            return
        with suppress(RuntimeError):  # the loop has just been closed
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.wait([asyncio.wrap_future(self._over)])

    # In the thread

    def _work(self, loop: asyncio.AbstractEventLoop, home: asyncio.AbstractEventLoop) -> None:
        try:
            with closing(loop):
                loop.run_until_complete(self._compete(home))
        except BaseException as error:  # noqa: BLE001  the thread's edge: the process's loop raises it
            self._over.set_exception(error)
        else:
            self._over.set_result(None)

    async def _compete(self, home: asyncio.AbstractEventLoop) -> None:
        async def won() -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.won(), home))

        cluster = await self.connect()
        try:
            elector = self._elector = self.elect(cluster, won)
            works = (elector.run(), elector.guard(), self._listen(home), self._stop.wait())
            tasks = [asyncio.create_task(work) for work in works]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await elector.release()
            for task in done:
                task.result()
        finally:
            await cluster.close()

    async def _listen(self, home: asyncio.AbstractEventLoop) -> None:
        """Give up when the process's loop does not move. Time in which the process was frozen does not count."""
        while self._silent < SILENT_LOOKS:
            self._silent += 1
            home.call_soon_threadsafe(self._hear)
            await asyncio.sleep(self.look_every)
        self.lost("its event loop does not move")

    def _hear(self) -> None:
        self._silent = 0
