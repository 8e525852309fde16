"""`kuberpa-agent enroll | run`: an agent that somebody installed, with its folder (`home`)."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kuberpa_agent.connection import Endpoint
from kuberpa_agent.enrolment import EnrolError, Key, enrol, facts
from kuberpa_agent.errors import StateDirInUseError
from kuberpa_agent.home import HOME_VARIABLE, Home, HomeError, home
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.logs import log_to_file, set_up_logging
from kuberpa_agent.serving import serve
from kuberpa_agent.settings import AgentSettings, websocket_url

COMMANDS: Final = ("enroll", "run")
GRACE_SECONDS: Final = 30.0


def parser() -> argparse.ArgumentParser:
    """The command line of an installed agent."""
    top = argparse.ArgumentParser(prog="kuberpa-agent")
    commands = top.add_subparsers(dest="command", required=True)
    enroll = commands.add_parser("enroll", help="make this machine's agent a robot's; `kuberpa enroll ROBOT` prints it")
    enroll.add_argument("code", help="the one-use code")
    enroll.add_argument("--panel", required=True, metavar="URL", help="base URL of the panel")
    enroll.add_argument("--ca", type=Path, metavar="FILE", help="CA bundle (PEM) that vouches for the panel")
    enroll.add_argument("--plaintext", action="store_true", help="allow http:// to another machine")
    run = commands.add_parser("run", help="work as the robot that this agent enrolled for")
    run.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    run.add_argument("--stderr", action="store_true", help="log to stderr instead of the log file")
    for command in (enroll, run):
        command.add_argument(
            "--home", metavar="FOLDER", help=f"the agent's folder; else {HOME_VARIABLE}, else the usual one"
        )
    return top


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 done, 1 not possible now, 2 wrong request."""
    given = parser().parse_args(arguments)
    place = home(given.home)
    try:
        if given.command == "enroll":
            return _enroll(place, given)
        return _run(place, given)
    except (EnrolError, HomeError) as error:
        print(f"kuberpa-agent: {error}", file=sys.stderr)  # noqa: T201  for people
        return 1


def _enroll(place: Home, given: argparse.Namespace) -> int:
    member = enrol(place, given.panel, given.code, given.ca, plaintext=given.plaintext)
    print(  # noqa: T201  for people
        f"This machine ({facts()}) is robot {member.namespace}/{member.robot} of {member.panel}.\n"
        f"Its key is in {place.folder}. Start it with: kuberpa-agent run"
    )
    return 0


def endpoint_of(place: Home) -> Endpoint:
    """How this agent reaches its panel, and proves who it is. Raises HomeError."""
    member = place.membership()
    ca_file = Path(member.ca_file) if member.ca_file else None
    return Endpoint(websocket_url(member.panel), None, ca_file, Key(place, member).credential)


def _run(place: Home, given: argparse.Namespace) -> int:
    endpoint = endpoint_of(place)
    place.prepare()
    if given.stderr:
        set_up_logging(given.log_level)
    else:
        log_to_file(given.log_level, place.log_file)
    settings = AgentSettings(
        panel_url=endpoint.url,
        token_file=None,
        state_dir=place.state,
        ca_file=endpoint.ca_file,
        secrets_dir=None,
        package_index_dir=None,
        file_roots=(),
        grace_seconds=GRACE_SECONDS,
        log_level=given.log_level,
    )
    try:
        return asyncio.run(serve(settings, endpoint))
    except (StateDirInUseError, WorkerError) as error:
        raise HomeError(str(error)) from None
