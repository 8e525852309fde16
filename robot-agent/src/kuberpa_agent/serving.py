"""One robot's agent from start to end, however it came to know who it is."""

import asyncio
import logging
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kuberpa import wire
from kuberpa_agent.agent import Agent, local_facts
from kuberpa_agent.connection import Endpoint
from kuberpa_agent.desk import Desk
from kuberpa_agent.executor import CloseMode, Executor
from kuberpa_agent.settings import AgentSettings
from kuberpa_agent.shutdown import Shutdown
from kuberpa_agent.visits.service import Remote
from kuberpa_agent.visits.services import Services

if TYPE_CHECKING:
    from kuberpa_agent.host.supervisor import HostWorkers

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.3


async def serve(  # length: its parts, one after another
    settings: AgentSettings, endpoint: Endpoint, asked: Callable[[], CloseMode | None] | None = None
) -> int:
    """Run one robot's agent until it is asked to end. The exit code.

    `asked` is looked at besides signals: how it is to end, or None while nobody asks.
    """
    shutdown = Shutdown()
    shutdown.install(settings.grace_seconds)
    executor = _executor(settings)
    await executor.open()
    facts = local_facts()
    log.info("started", extra={"version": facts.version, "panel": settings.panel_url, "pid": os.getpid()})
    services = Services(
        settings,
        executor.taken_over,
        lambda: any(run.running for run in executor.runs()),
        executor.bench,
        executor.door,
    )
    executor.on_settings(services.apply)
    remote = Remote(services.by_kind())
    agent = Agent(endpoint, executor, facts, remote=remote)
    desk = Desk(settings.state_dir, executor, agent.relay)
    await desk.open()

    def ended(finished: wire.Finished) -> None:
        desk.note(finished)
        services.recorder.note(finished)

    agent.on_end(ended)
    recording = asyncio.create_task(services.recorder.run())
    work = asyncio.create_task(agent.run())
    signalled = asyncio.create_task(shutdown.requested.wait())
    looking = asyncio.create_task(_look(asked))
    try:
        await asyncio.wait({work, signalled, looking}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await executor.close(CloseMode.DETACH)
            work.result()
        if looking.done() and looking.result() is CloseMode.DETACH:
            log.info("ending: what runs goes on, and the next agent here takes it over")
            await executor.close(CloseMode.DETACH)
            return 0
        log.info("ending: stopping what runs", extra={"grace_seconds": settings.grace_seconds})
        delivered = await agent.drain(CloseMode.SAFE, settings.grace_seconds)
        log.info("ended" if delivered else "ended; results that were not delivered stay in the state directory")
        return 0
    finally:
        await _cancel(work, signalled, looking, recording)
        for part in (remote, services, desk):
            await part.close()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _executor(settings: AgentSettings) -> Executor:
    return Executor(
        settings.state_dir,
        secrets_dir=settings.secrets_dir,
        index_dir=settings.package_index_dir,
        session_dir=settings.session_dir,
        host=_host_workers(settings),
    )


def _host_workers(settings: AgentSettings) -> "HostWorkers | None":
    """Of a supervisor: who runs its activities, which is the host."""
    if settings.host is None:
        return None
    from kuberpa_agent.host.channel import WinRMChannel  # noqa: PLC0415  memory that other agents need not hold
    from kuberpa_agent.host.supervisor import HostWorkers  # noqa: PLC0415  as above

    credentials = settings.host_credentials_dir or settings.state_dir / "no-credentials"
    return HostWorkers(
        settings.state_dir,
        settings.host,
        WinRMChannel(settings.host.host, credentials, settings.host_ca_file, settings.state_dir),
        credentials=credentials,
        secrets_dir=settings.secrets_dir,
        rng=random.Random(),  # noqa: S311  of waits
    )


async def _look(asked: Callable[[], CloseMode | None] | None) -> CloseMode:
    """Until somebody asks; for ever where there is nothing to look at."""
    if asked is None:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")
    while (mode := asked()) is None:  # noqa: ASYNC110  a file tells nobody that it is there
        await asyncio.sleep(LOOK_SECONDS)
    return mode
