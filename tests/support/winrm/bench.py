"""An executor whose runs are on a host."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.support.agent_runs import Bench, Record

from kuberpa import wire
from kuberpa.host import HostReport, RobotHostSpec, Supervised
from kuberpa_agent.host.channel import Channel
from kuberpa_agent.host.supervisor import HostWorkers

_PATIENCE: Final = 180.0


class HostBench(Bench):
    """A supervisor without a panel."""

    def __init__(
        self,
        state_dir: Path,
        spec: RobotHostSpec,
        channel: Channel,
        *,
        robot: str,
        credentials: Path,
        connections: int = 2,
        secrets_dir: Path | None = None,
        session_dir: Path | None = None,
    ) -> None:
        self.reports: list[HostReport] = []
        workers = HostWorkers(
            state_dir,
            Supervised(robot=robot, host=spec, connections=connections),
            channel,
            credentials=credentials,
            secrets_dir=secrets_dir,
            rng=random.Random(1),
        )
        super().__init__(state_dir, host=workers, session_dir=session_dir)

    async def until(self, condition: Callable[[], bool], deadline: float = _PATIENCE) -> None:
        """Patiently: each call is a process of its own, under wine at times."""
        await super().until(condition, deadline)

    async def reached(self) -> HostReport:
        """Wait until the host has been reached."""
        await self.until(lambda: bool(self.reports) and self.reports[-1].reachable)
        return self.reports[-1]

    async def reported(self, reason: str) -> HostReport:
        """Wait until the host is found so."""
        await self.until(lambda: bool(self.reports) and self.reports[-1].reason == reason)
        return self.reports[-1]

    async def command(self, line: str, uid: str | None = None, **options: Any) -> str:
        """Start a line of cmd.exe; returns its uid."""
        more = {"uid": uid} if uid else {}
        return await self.start("os.command", line, shell=True, options={**options, **more})

    async def ran(self, line: str) -> Record:
        """Run a line of cmd.exe to its end."""
        return await self.finished(await self.command(line))

    def _take(self, event: Any) -> None:
        if isinstance(event, wire.Host):
            self.reports.append(event.report)
        else:
            super()._take(event)
