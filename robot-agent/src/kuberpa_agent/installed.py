"""`kuberpa-agent enroll | run | doctor | service | upgrade`: an agent that somebody installed, with its folder."""

import argparse
import asyncio
import getpass
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kuberpa_agent import keeper
from kuberpa_agent.connection import Endpoint
from kuberpa_agent.errors import AgentError, StateDirInUseError
from kuberpa_agent.home import HOME_VARIABLE, Home, HomeError, home
from kuberpa_agent.launcher import WorkerError
from kuberpa_agent.logs import log_to_file, set_up_logging
from kuberpa_agent.proof import credential
from kuberpa_agent.serving import serve
from kuberpa_agent.settings import AgentSettings, websocket_url

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
    examining = commands.add_parser("doctor", help="find out what keeps this machine from working as its robot")
    upgrading = commands.add_parser(
        "upgrade", help="install another version and switch to it, if its doctor is content"
    )
    upgrading.add_argument("requirement", nargs="?", default="kuberpa-agent", help="e.g. kuberpa-agent==1.2.0")
    upgrading.add_argument("--find-links", metavar="FOLDER", help="folder of packages to install from as well")
    upgrading.add_argument("--index-url", metavar="URL", help="package index to install from instead of the usual one")
    service = commands.add_parser("service", help="keep the agent running: as a service of Windows, or below systemd")
    service.add_argument("do", choices=["install", "uninstall", "status", "run"])
    desktop = service.add_mutually_exclusive_group()
    desktop.add_argument("--user", metavar="NAME", help="Windows: in whose session the agent works; else yours")
    desktop.add_argument("--no-desktop", action="store_true", help="Windows: in the service's own session, without one")
    service.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    for command in (enroll, run, examining, upgrading, service):
        command.add_argument(
            "--home", metavar="FOLDER", help=f"the agent's folder; else {HOME_VARIABLE}, else the usual one"
        )
    return top


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 done, 1 not possible now, 2 wrong request."""
    given = parser().parse_args(arguments)
    place = home(given.home)
    try:
        return _COMMANDS[given.command](place, given)
    except AgentError as error:
        print(f"kuberpa-agent: {error}", file=sys.stderr)  # noqa: T201  for people
        return 1


def _enroll(place: Home, given: argparse.Namespace) -> int:
    from kuberpa_agent.enrolment import enrol, facts  # noqa: PLC0415  a running agent never loads it

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
    return Endpoint(websocket_url(member.panel), None, ca_file, lambda: credential(place))


def _run(place: Home, given: argparse.Namespace) -> int:
    endpoint = endpoint_of(place)
    place.prepare()
    keeper.stop_file(place).unlink(missing_ok=True)
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
        session_dir=None,
        grace_seconds=GRACE_SECONDS,
        log_level=given.log_level,
    )
    try:
        return asyncio.run(serve(settings, endpoint, lambda: keeper.asked_to_end(place)))
    except (StateDirInUseError, WorkerError) as error:
        raise HomeError(str(error)) from None


def _doctor(place: Home, _: argparse.Namespace) -> int:
    from kuberpa_agent.doctor import examine  # noqa: PLC0415  as above

    found = examine(place)
    print("\n".join(map(str, found)))  # noqa: T201  for people
    return 0 if all(finding.ok for finding in found) else 1


def _upgrade(place: Home, given: argparse.Namespace) -> int:
    from kuberpa_agent.upgrade import upgrade  # noqa: PLC0415  as above

    options = [f"--{name}={value}" for name, value in _sources(given).items() if value]
    python = upgrade(place, given.requirement, options)
    print(f"The agent's present version is that of {python}")  # noqa: T201  for people
    return 0


def _sources(given: argparse.Namespace) -> dict[str, str | None]:
    return {"find-links": given.find_links, "index-url": given.index_url}


def _service(place: Home, given: argparse.Namespace) -> int:
    if sys.platform == "win32":
        from kuberpa_agent import service_windows  # noqa: PLC0415  Windows alone has it

        if given.do == "run":
            return service_windows.run(place, given.log_level)
        if given.do == "install":
            user = None if given.no_desktop else given.user or getpass.getuser()
            print(service_windows.install(place, user))  # noqa: T201  for people
        elif given.do == "uninstall":
            print(service_windows.uninstall())  # noqa: T201  for people
        else:
            print(service_windows.state())  # noqa: T201  for people
        return 0
    if given.do != "run":
        raise HomeError("systemd keeps services on Linux: docs/windows-agent.md has a unit that calls `service run`")
    set_up_logging(given.log_level)
    kept = keeper.Keeper(place, keeper.start_here)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: kept.end())
    kept.run()
    return 0


_COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace], int]]] = {
    "enroll": _enroll,
    "run": _run,
    "doctor": _doctor,
    "upgrade": _upgrade,
    "service": _service,
}
