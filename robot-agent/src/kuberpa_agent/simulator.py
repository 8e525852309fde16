"""`kuberpa-agent simulate`: many robots in one process, each with a connection of its own to the panel.

The robots speak the real protocol over real connections with their own tokens: what is simulated is their work
(see kuberpa_agent.simulated). That proves how operator, panel, API server and database carry many robots. It does
not prove the executor: no processes, no spool on disk, no packages, no stop of a real program, no memory or CPU of
activities; a kill -9 of this process forgets what ran.

Commands come as JSON lines on standard input; its end ends the process:

    {"add": {"uid": "<pod UID>", "name": "r1", "namespace": "default", "env": {…}, "tokenFile": "/…/token"}}
    {"remove": {"uid": "<pod UID>"}}

`env` is the environment of the robot's pod; KUBERPA_PANEL_URL and KUBERPA_PANEL_CA_FILE count, and
KUBERPA_GRACE_SECONDS when the robot is removed.
"""

import argparse
import asyncio
import logging
import os
import random
import sys
from asyncio import sslproto
from dataclasses import dataclass, replace
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, model_validator

from kuberpa.model import Model
from kuberpa_agent.agent import Agent, Facts, Pacing, local_facts
from kuberpa_agent.connection import Endpoint
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.logs import set_up_logging
from kuberpa_agent.settings import AgentSettings, SettingsError, read_settings
from kuberpa_agent.shutdown import Shutdown
from kuberpa_agent.simulated import DURATION_FORMS, Duration, Plan, SimulatedRuns

MAX_COMMAND_BYTES: Final = 1024 * 1024
OPENING: Final = 32
"""Connections opened at a time: a thousand handshakes at once would measure the handshakes."""
KEEPALIVE_SECONDS: Final = 30.0
TLS_BUFFER_BYTES: Final = 16 * 1024
END_GRACE_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


class Add(Model):
    """A robot's pod is there."""

    uid: Annotated[str, Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(max_length=253)] = ""
    namespace: Annotated[str, Field(max_length=63)] = ""
    env: dict[str, str] = {}
    token_file: Annotated[str, Field(min_length=1)]


class Remove(Model):
    """A robot's pod is being deleted."""

    uid: Annotated[str, Field(min_length=1, max_length=64)]


class Command(Model):
    """One line: exactly one of the fields."""

    add: Add | None = None
    remove: Remove | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.add is None) is (self.remove is None):
            raise ValueError("exactly one of add and remove must be given")
        return self


@dataclass(slots=True)
class _Robot:
    agent: Agent
    settings: AgentSettings
    work: asyncio.Task[None]


class Simulator:
    """The robots of one process."""

    def __init__(self, plan: Plan, facts: Facts, rng: random.Random) -> None:
        self._plan = plan
        self._facts = facts
        self._rng = rng
        self._pacing = Pacing(rng, KEEPALIVE_SECONDS, asyncio.Semaphore(OPENING))
        self._robots: dict[str, _Robot] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Robots that there are now."""
        return len(self._robots)

    def command(self, line: str) -> None:
        """Carry out one line; a bad one is logged and changes nothing."""
        try:
            command = Command.model_validate_json(line)
            if command.add is not None:
                self.add(command.add)
            if command.remove is not None:
                self.remove(command.remove.uid, None)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "line"
            log.error("not a command: %s: %s", where, first["msg"])  # noqa: TRY400  the message says it all
        except SettingsError as error:
            log.error("robot not added: %s", error)  # noqa: TRY400  the message says it all

    def add(self, pod: Add) -> None:
        """Begin a robot. Adding it again changes nothing."""
        if pod.uid in self._robots:
            return
        environ = {"KUBERPA_STATE_DIR": "unused", **pod.env, "KUBERPA_TOKEN_FILE": pod.token_file}
        settings = read_settings(environ)
        agent = Agent(
            Endpoint(settings.panel_url, settings.token_file, settings.ca_file),
            SimulatedRuns(self._plan, self._rng),
            replace(self._facts, hostname=pod.name or pod.uid),
            robot=f"{pod.namespace}/{pod.name}",
            pacing=self._pacing,
        )
        self._robots[pod.uid] = _Robot(agent, settings, asyncio.create_task(agent.run()))

    def remove(self, uid: str, grace_seconds: float | None) -> None:
        """Stop a robot's runs, deliver their results, end it."""
        robot = self._robots.pop(uid, None)
        if robot is None:
            log.warning("no such robot to remove", extra={"uid": uid})
            return
        grace = robot.settings.grace_seconds if grace_seconds is None else grace_seconds
        task = asyncio.create_task(self._end(robot, grace))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, robot: _Robot, grace_seconds: float) -> None:
        await robot.agent.drain(CloseMode.SAFE, grace_seconds)
        robot.work.cancel()
        await asyncio.gather(robot.work, return_exceptions=True)

    async def end(self) -> None:
        """Remove every robot and wait."""
        for uid in tuple(self._robots):
            self.remove(uid, END_GRACE_SECONDS)
        await asyncio.gather(*self._ending)


async def simulate(plan: Plan, seed: int | None) -> int:
    """Serve commands from standard input until it ends or a signal comes. The exit code."""
    shutdown = Shutdown()
    shutdown.install(END_GRACE_SECONDS)
    rng = random.Random(seed)  # noqa: S311  jitter and durations, not secrets
    simulator = Simulator(plan, replace(local_facts(), os="simulated"), rng)
    reader = asyncio.StreamReader(limit=MAX_COMMAND_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    commands = asyncio.create_task(_serve(simulator, reader))
    asked = asyncio.create_task(shutdown.requested.wait())
    await asyncio.wait({commands, asked}, return_when=asyncio.FIRST_COMPLETED)
    for task in (commands, asked):
        task.cancel()
    log.info("ending", extra={"robots": simulator.count})
    await simulator.end()
    return 0


async def _serve(simulator: Simulator, reader: asyncio.StreamReader) -> None:
    while line := await reader.readline():
        if line.strip():
            simulator.command(line.decode("utf-8", "replace"))


def _allow_connections() -> None:
    """A connection is a descriptor, and the usual soft limit is 1,024."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  Windows has no such module

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _save_memory() -> None:
    """A TLS connection of asyncio allocates a read buffer of 256 KiB; one TLS record has 16."""
    sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kuberpa-agent simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument(
        "--duration",
        type=_duration,
        default=Duration(),
        metavar="SECONDS",
        help=f"of os.command: {DURATION_FORMS}",
    )
    top.add_argument("--lines", type=int, default=1, metavar="N", help="lines of output an attempt (default 1)")
    top.add_argument(
        "--definition",
        action="append",
        default=[],
        metavar="NAME",
        help="a further definition that robots claim to have",
    )
    top.add_argument("--seed", type=int, help="makes durations repeatable")
    return top


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    options = parser().parse_args(argv)
    set_up_logging(os.environ.get("KUBERPA_LOG_LEVEL", "INFO").upper())
    _allow_connections()
    _save_memory()
    return asyncio.run(simulate(Plan(options.duration, options.lines, tuple(options.definition)), options.seed))


if __name__ == "__main__":
    sys.exit(main())
