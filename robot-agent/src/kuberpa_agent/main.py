"""`kuberpa-agent`: one robot's agent in its pod; `enroll`, `run`, …: one that was installed; `simulate`: many."""

import argparse
import asyncio
import logging
import os
import sys
from importlib.metadata import version
from typing import Final

from kuberpa_agent.connection import Endpoint
from kuberpa_agent.errors import StateDirInUseError
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.logs import set_up_logging
from kuberpa_agent.serving import serve
from kuberpa_agent.settings import SettingsError, describe_variables, read_settings

log = logging.getLogger(__name__)

INSTALLED: Final = frozenset({"enroll", "run", "doctor", "upgrade", "service"})
"""Commands of an agent that somebody installed: kuberpa_agent.installed."""


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
    if INSTALLED.intersection(arguments[:1]):
        from kuberpa_agent.installed import main as installed  # noqa: PLC0415  agents in pods never load it

        return installed(arguments)
    parser().parse_args(arguments)
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(f"kuberpa-agent: {error}\nSee kuberpa-agent --help.", file=sys.stderr)  # noqa: T201  for people
        return 2
    set_up_logging(settings.log_level)
    try:
        return asyncio.run(serve(settings, Endpoint(settings.panel_url, settings.token_file, settings.ca_file)))
    except (StateDirInUseError, WorkerError) as error:
        log.error("%s", error)  # noqa: TRY400  the message says it all
        return 1
