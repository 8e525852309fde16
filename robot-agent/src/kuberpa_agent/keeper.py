"""Keeps an installed agent running, and the version of it that is the present one: what a service does.

The agent is a process of its own, so that it may work in a desktop's session, and be replaced by another version
without the service. It is asked to end by a file in its folder, which crosses sessions and users.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from kuberpa_agent.executor import CloseMode
from kuberpa_agent.home import Home
from kuberpa_agent.worker import rundir

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
STABLE_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0
_CURRENT: Final = "current.json"


class Child(Protocol):
    """A started agent."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""

    def kill(self) -> None:
        """End it at once."""


Start = Callable[[Sequence[str]], Child | None]
"""Starts a command where agents work; None while there is no such place (nobody is logged on)."""


def python_of(place: Home) -> Path:
    """The interpreter of the present version."""
    found = rundir.read_json(place.folder / _CURRENT) or {}
    python = Path(str(found.get("python", "")))
    return python if found and python.exists() else Path(sys.executable)


def use(place: Home, python: Path) -> None:
    """Make this interpreter's version the present one, from the agent's next start on."""
    rundir.write_json(place.folder / _CURRENT, {"python": str(python)}, durable=True)


def ask_to_end(place: Home, mode: CloseMode) -> None:
    """Make the agent of this folder end: safely with what runs, or alone, so that the next one takes that over."""
    rundir.write_json(stop_file(place), {"mode": mode.value})


def asked_to_end(place: Home) -> CloseMode | None:
    """How the agent is to end; None while nobody asks."""
    found = rundir.read_json(stop_file(place))
    if found is None:
        return None
    return CloseMode.DETACH if found.get("mode") == CloseMode.DETACH.value else CloseMode.SAFE


def stop_file(place: Home) -> Path:
    """Exists while the agent is to end; a starting one removes it."""
    return place.folder / "stop"


class Keeper:
    """The loop of the service."""

    def __init__(self, place: Home, start: Start) -> None:
        self._place = place
        self._start = start
        self._ending = threading.Event()
        self._wait = FIRST_WAIT

    def end(self) -> None:
        """Return from `run`, once the agent has ended."""
        self._ending.set()

    def run(self) -> None:
        """Start the agent whenever it does not run, until `end`."""
        while not self._ending.is_set():
            child = self._start(self._command())
            if child is None:
                self._ending.wait(LOOK_SECONDS * 4)
                continue
            log.info("the agent is started", extra={"pid": child.pid})
            began = time.monotonic()
            code = self._follow(child)
            if self._ending.is_set():
                return
            lasted = time.monotonic() - began >= STABLE_SECONDS
            self._wait = FIRST_WAIT if code == 0 or lasted else min(2 * self._wait, LONGEST_WAIT)
            log.warning("the agent ended", extra={"exit_code": code, "again_seconds": self._wait})
            self._ending.wait(self._wait)

    def _command(self) -> list[str]:
        return [str(python_of(self._place)), "-m", "kuberpa_agent", "run", "--home", str(self._place.folder)]

    def _follow(self, child: Child) -> int:
        """Wait for its end; when this is to end, ask it to, and kill it when it takes too long."""
        while (code := child.poll()) is None:
            if self._ending.wait(LOOK_SECONDS):
                return self._finish(child)
        return code

    def _finish(self, child: Child) -> int:
        ask_to_end(self._place, CloseMode.SAFE)
        deadline = time.monotonic() + END_SECONDS
        pause = threading.Event()
        while (code := child.poll()) is None:
            if time.monotonic() >= deadline:
                log.warning("the agent does not end and is killed; what it runs goes on, and the next one adopts it")
                child.kill()
                return -1
            pause.wait(LOOK_SECONDS / 5)
        return code


def start_here(command: Sequence[str]) -> Child:
    """Start it as a child of this process, in its session."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **options)  # noqa: S603  the point
