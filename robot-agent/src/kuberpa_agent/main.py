"""`kuberpa-agent`: one robot's agent, or `kuberpa-agent simulate`: many robots in one process."""

import argparse
import asyncio
import logging
import os
import sys
from importlib.metadata import version

from kuberpa_agent.agent import Agent, local_facts
from kuberpa_agent.connection import Endpoint
from kuberpa_agent.desk import Desk
from kuberpa_agent.errors import StateDirInUseError
from kuberpa_agent.executor import CloseMode, Executor
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.logs import set_up_logging
from kuberpa_agent.settings import AgentSettings, SettingsError, describe_variables, read_settings
from kuberpa_agent.shutdown import Shutdown

log = logging.getLogger(__name__)


async def serve(settings: AgentSettings) -> int:
    """Run one robot's agent until it is asked to end. The exit code."""
    shutdown = Shutdown()
    shutdown.install(settings.grace_seconds)
    executor = Executor(settings.state_dir, secrets_dir=settings.secrets_dir, index_dir=settings.package_index_dir)
    await executor.open()
    facts = local_facts()
    log.info("started", extra={"version": facts.version, "panel": settings.panel_url, "pid": os.getpid()})
    agent = Agent(Endpoint(settings.panel_url, settings.token_file, settings.ca_file), executor, facts)
    desk = Desk(settings.state_dir, executor, agent.relay)
    await desk.open()
    agent.on_end(desk.note)
    work = asyncio.create_task(agent.run())
    asked = asyncio.create_task(shutdown.requested.wait())
    try:
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await executor.close(CloseMode.DETACH)
            work.result()
        log.info("ending: stopping what runs", extra={"grace_seconds": settings.grace_seconds})
        delivered = await agent.drain(CloseMode.SAFE, settings.grace_seconds)
        log.info("ended" if delivered else "ended; results that were not delivered stay in the state directory")
        return 0
    finally:
        for task in (work, asked):
            task.cancel()
        await asyncio.gather(work, asked, return_exceptions=True)
        await desk.close()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kuberpa-agent",
        description="Runs a robot's activities on this machine and talks to the kuberpa panel. "
        "Ends gracefully on SIGTERM: stops what runs, delivers results; a second signal ends it at once.",
        epilog=describe_variables(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kuberpa-agent {version('kuberpa-agent')}")
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 ended on request, 2 wrong settings, 1 anything else."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["simulate"]:
        from kuberpa_agent.simulator import main as simulate  # noqa: PLC0415  real agents never load it

        return simulate(arguments[1:])
    parser().parse_args(arguments)
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(f"kuberpa-agent: {error}\nSee kuberpa-agent --help.", file=sys.stderr)  # noqa: T201  for people
        return 2
    set_up_logging(settings.log_level)
    try:
        return asyncio.run(serve(settings))
    except (StateDirInUseError, WorkerError) as error:
        log.error("%s", error)  # noqa: TRY400  the message says it all
        return 1
