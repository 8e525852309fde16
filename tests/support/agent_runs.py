"""A real executor with a consumer that keeps what it yields, one record a run."""

import asyncio
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kuberpa import wire
from kuberpa_agent.executor import CloseMode, Executor
from kuberpa_agent.workers import Workers

DEADLINE = 60.0


@dataclass
class Record:
    """What came of one run."""

    started: wire.Started | None = None
    lines: list[wire.Line] = field(default_factory=list)
    progress: list[wire.Progress] = field(default_factory=list)
    finished: wire.Finished | None = None
    finished_times: int = 0

    def text(self, stream: str = "stdout") -> str:
        """Lines of a stream, continued ones joined."""
        return "".join(x.text + ("" if x.continues else "\n") for x in self.lines if x.stream == stream)

    @property
    def end(self) -> wire.Finished:
        """The result, which must be there."""
        assert self.finished is not None
        return self.finished


def local_workers(executor: Executor) -> Workers:
    """The worker processes of an executor whose runs are on this machine."""
    assert isinstance(executor._workers, Workers)
    return executor._workers


class Bench:
    """Starts runs on an executor and waits for what becomes of them."""

    def __init__(self, state_dir: Path, *, acknowledge: bool = True, **options: Any) -> None:
        self.state_dir = state_dir
        self.executor = Executor(state_dir, **options)
        self.records: dict[str, Record] = {}
        self.packages: list[wire.Packages] = []
        self.states: list[wire.State] = []
        self.sessions: list[wire.Seen] = []
        self._acknowledge = acknowledge
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.executor.open()
        self._task = asyncio.create_task(self._consume())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(CloseMode.FORCE)

    async def close(self, mode: CloseMode) -> None:
        """End the executor, once."""
        if not self._task.done():
            await self.executor.close(mode)
            await self._task

    def record(self, uid: str) -> Record:
        """What is known of a run."""
        return self.records.setdefault(uid, Record())

    def directory(self, uid: str) -> Path:
        """Its run directory."""
        return self.state_dir / "runs" / f"{uid}-1"

    async def start(self, definition: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> str:
        """Start a run, returns its uid. `options` are fields of wire.Start."""
        options = dict(options or {})
        uid = options.pop("uid", None) or uuid.uuid4().hex
        given = {"args": list(args), "kwargs": kwargs}
        await self.executor.start(
            wire.Start.of(
                {
                    "uid": uid,
                    "token": 1,
                    "namespace": "test",
                    "name": "item",
                    "def": definition,
                    "input": given,
                    **options,
                }
            )
        )
        return uid

    async def run(self, definition: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Record:
        """Start a run and wait for its end."""
        return await self.finished(await self.start(definition, *args, options=options, **kwargs))

    async def finished(self, uid: str) -> Record:
        """Wait for the end of a run."""
        await self.until(lambda: self.record(uid).finished is not None)
        return self.record(uid)

    async def printed(self, uid: str, text: str) -> Record:
        """Wait until a run's output holds a text."""
        await self.until(lambda: any(text in x.text for x in self.record(uid).lines))
        return self.record(uid)

    async def until(self, condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
        """Wait until something that events change is so."""
        async with asyncio.timeout(deadline), self._changed:
            await self._changed.wait_for(condition)

    async def installed(self, *requirements: str, **settings: Any) -> wire.Packages:
        """Configure packages and wait for the verdict about them."""
        seen = len(self.packages)
        await self.executor.configure(wire.Settings(packages=requirements, **settings))
        done = {"Installed", "Failed", "None"}
        await self.until(lambda: any(p.status.state in done for p in self.packages[seen:]), 120)
        return next(p for p in self.packages[seen:] if p.status.state in done)

    async def tell(self, state: str, generation: int = 1, **settings: Any) -> None:
        """Tell the robot to work, to pause, to stop or to kill."""
        wanted = {"state": state, "generation": generation, "concurrency": 8, **settings}
        await self.executor.configure(wire.Settings.of(wanted))

    async def settled(self, state: str, generation: int = 1) -> None:
        """Wait until the robot says that it has done so."""
        said = wire.State.of({"state": state, "settled": True, "generation": generation})
        await self.until(lambda: self.states[-1:] == [said])

    async def _consume(self) -> None:
        async for event in self.executor.events():
            self._take(event)
            async with self._changed:
                self._changed.notify_all()

    def _take(self, event: Any) -> None:
        if isinstance(event, wire.Packages):
            self.packages.append(event)
        elif isinstance(event, wire.State):
            self.states.append(event)
        elif isinstance(event, wire.Seen):
            self.sessions.append(event)
        elif isinstance(event, wire.Started):
            self.record(event.uid).started = event
        elif isinstance(event, wire.Progress):
            self.record(event.uid).progress.append(event)
        elif isinstance(event, wire.Finished):
            self.record(event.uid).finished = event
            self.record(event.uid).finished_times += 1
        elif isinstance(event, wire.Output):
            record = self.record(event.uid)
            have = record.lines[-1].seq if record.lines else 0
            record.lines += [line for line in event.lines if line.seq > have]
            if self._acknowledge:
                self.executor.acknowledge(event.uid, event.token, event.lines[-1].seq)


def living(marker: str) -> set[int]:
    """PIDs whose command line holds a text, this process excluded; zombies have none."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


async def eventually(condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110  the state of the machine
            await asyncio.sleep(0.02)
