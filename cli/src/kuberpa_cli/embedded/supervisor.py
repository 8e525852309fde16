"""Keeps the parts of a cluster running: each starts when what it needs is ready, and again when it ends.

A part that was never ready and fails three times, or does not become ready in time, fails the start as a whole:
its log's last lines are in the error. Later crashes are restarted with a backoff that doubles from half a second
to half a minute and is forgotten after a minute of good running.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kuberpa_cli.embedded.child import Child
from kuberpa_cli.embedded.part import Condition, Part, State, Step, Unit
from kuberpa_cli.embedded.processes import NETWORK_VARIABLES
from kuberpa_cli.errors import KuberpaError

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
GOOD_RUN = 60.0
START_ATTEMPTS = 3
PROBE_EVERY = 0.05
LOG_TAIL = 15
LOG_LIMIT = 10_000_000

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", *NETWORK_VARIABLES)

Listener = Callable[[Condition], None]


class PartFailedError(KuberpaError):
    """A part did not become ready while the cluster was coming up."""


class Supervisor:
    """Runs units in the order of their needs; `environment` is inherited by every process."""

    def __init__(self, units: Iterable[Unit], logs: Path, environment: Mapping[str, str], listener: Listener) -> None:
        self._units = {unit.name: unit for unit in units}
        self._logs = logs
        self._environment = dict(environment)
        self._listener = listener
        self._ready = {name: asyncio.Event() for name in self._units}
        self._children: dict[str, Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self.conditions = {name: Condition(name, State.WAITING) for name in self._units}

    async def start(self) -> None:
        """Start everything; returns when all of it is ready.

        Raises PartFailedError, or what a step raised, as soon as one unit cannot come up; the caller then stops
        the others with `stop`.
        """
        for unit in self._units.values():
            run = self._keep(unit) if isinstance(unit, Part) else self._do(unit)
            self._tasks[unit.name] = asyncio.create_task(run, name=unit.name)
        ready = asyncio.gather(*(event.wait() for event in self._ready.values()))
        try:
            await self._first_failure(ready)
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    async def stop(self) -> None:
        """Stop parts in the reverse order of their needs: a part ends when all that need it have ended."""
        self._stopping = True
        ended = {name: asyncio.Event() for name in self._units}

        async def end(unit: Unit) -> None:
            await asyncio.gather(*(ended[u.name].wait() for u in self._units.values() if unit.name in u.needs))
            if isinstance(unit, Part):
                await self._end(unit)
            elif task := self._tasks.get(unit.name):
                task.cancel()
            ended[unit.name].set()

        await asyncio.gather(*(end(unit) for unit in self._units.values()))
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _first_failure(self, ready: "asyncio.Future[Any]") -> None:
        waiting: set[asyncio.Future[Any]] = {ready, *self._tasks.values()}
        while not ready.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ready}:
                task.result()

    async def _do(self, step: Step) -> None:
        await self._needs(step)
        self._tell(step.name, state=State.STARTING)
        try:
            await step.run()
        except Exception as error:
            self._tell(step.name, state=State.FAILED, message=str(error))
            raise
        self._tell(step.name, state=State.READY)
        self._ready[step.name].set()

    async def _keep(self, part: Part) -> None:
        await self._needs(part)
        backoff = FIRST_BACKOFF
        failures = 0
        while True:
            self._tell(part.name, state=State.STARTING, message="")
            started = asyncio.get_running_loop().time()
            what = await self._run_once(part)
            if self._stopping:
                return
            if not self._ready[part.name].is_set():
                failures += 1
                if failures >= START_ATTEMPTS:
                    self._fail(part, what)
            if asyncio.get_running_loop().time() - started > GOOD_RUN:
                backoff = FIRST_BACKOFF
            self._tell(
                part.name,
                state=State.RESTARTING,
                message=f"{what}; starting again in {backoff:g} s",
                pid=None,
                restarts=self.conditions[part.name].restarts + 1,
            )
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _run_once(self, part: Part) -> str:
        """Run the part until it ends; how it ended, in words."""
        try:
            await part.prepare()
        except (KuberpaError, OSError) as error:
            return f"could not be prepared: {error}"
        log = self._logs / f"{part.name}.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        env = {**self._environment, **part.env}
        try:
            child = Child.start(part.command, env=env, cwd=part.cwd, log=log, user=part.user)
        except OSError as error:
            return f"could not be started: {error}"
        self._children[part.name] = child
        self._tell(part.name, pid=child.pid)
        ended = asyncio.create_task(child.wait())
        probing = asyncio.create_task(self._become_ready(part))
        try:
            await asyncio.wait({ended, probing}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                probing.result()
            code = await ended
        finally:
            probing.cancel()
            await asyncio.wait({probing})
            ended.cancel()
        child.kill_group()
        self._children.pop(part.name, None)
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _become_ready(self, part: Part) -> None:
        """Probe until ready; raises PartFailedError when that takes too long on the first start."""
        why: str | None = "was not probed"
        try:
            async with asyncio.timeout(None if self._ready[part.name].is_set() else part.ready_seconds):
                # The condition is outside this program: there is no event to wait for.
                while why := await part.probe():  # noqa: ASYNC110
                    await asyncio.sleep(PROBE_EVERY)
        except TimeoutError:
            self._fail(part, f"was not ready within {part.ready_seconds:g} s: {why}")
        self._tell(part.name, state=State.READY, message="")
        self._ready[part.name].set()

    def _fail(self, part: Part, what: str) -> None:
        log = self._logs / f"{part.name}.log"
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:] if log.exists() else []
        self._tell(part.name, state=State.FAILED, message=what)
        raise PartFailedError("\n".join([f"{part.name} {what}. Its log ends with:", *lines, f"({log})"]))

    async def _end(self, part: Part) -> None:
        if child := self._children.get(part.name):
            self._tell(part.name, state=State.STOPPING)
            await child.stop(part.stop_signal, part.stop_seconds)
        if task := self._tasks.get(part.name):
            task.cancel()
            await asyncio.wait({task})
        # The task may have started a process after the first look.
        if (late := self._children.get(part.name)) and late is not child:
            await late.stop(signal.SIGKILL, part.stop_seconds)
        self._tell(part.name, state=State.STOPPED, pid=None)

    async def _needs(self, unit: Unit) -> None:
        await asyncio.gather(*(self._ready[name].wait() for name in unit.needs))

    def _tell(self, name: str, **changes: object) -> None:
        condition = replace(self.conditions[name], **changes)  # type: ignore[arg-type]
        self.conditions[name] = condition
        self._listener(condition)


def marked_environment(marker: str, cluster_id: str) -> dict[str, str]:
    """What every process of the cluster inherits: little, and the marker by which it is found again."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, marker: cluster_id}
