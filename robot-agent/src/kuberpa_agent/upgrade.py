"""`kuberpa-agent upgrade`: another version beside the present one, which takes over when its doctor is content.

What runs goes on meanwhile: shims outlive the agent, and the new one adopts them.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import uv

from kuberpa_agent import keeper
from kuberpa_agent.errors import AgentError
from kuberpa_agent.executor import CloseMode
from kuberpa_agent.home import Home
from kuberpa_agent.platform import selected

INSTALL_SECONDS: Final = 900.0
DOCTOR_SECONDS: Final = 120.0
TAKEOVER_SECONDS: Final = 90.0
_LOOK_SECONDS: Final = 0.2


class UpgradeError(AgentError):
    """The present version stays; the message says why."""


def upgrade(place: Home, requirement: str, options: Sequence[str] = ()) -> Path:
    """Install `requirement` and make it the present version. Raises UpgradeError, with everything as before.

    `options` go to the installer, e.g. --index-url.
    """
    former = keeper.python_of(place)
    versions = place.folder / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    folder = versions / time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    try:
        python = _install(folder, requirement, options)
        _consult(python, place)
        was_running = _is_running(place)
        keeper.use(place, python)
        if was_running:
            _take_over(place, former)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for old in versions.iterdir():
        if old not in {folder, *former.parents}:
            shutil.rmtree(old, ignore_errors=True)
    return python


def _install(folder: Path, requirement: str, options: Sequence[str]) -> Path:
    program = uv.find_uv_bin()
    _call([program, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)], "no environment")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [program, "pip", "install", "--quiet", "--python", str(python), *options, requirement]
    _call(command, f"{requirement} cannot be installed")
    return python


def _call(command: Sequence[str], what: str) -> None:
    done = subprocess.run(  # noqa: S603  the installer
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, errors="replace"
    )
    if done.returncode != 0:
        raise UpgradeError(f"{what}: {(done.stderr or done.stdout).strip()[-2000:]}")


def _consult(python: Path, place: Home) -> None:
    """The new version's own doctor decides about it."""
    command = [str(python), "-m", "kuberpa_agent", "doctor", "--home", str(place.folder)]
    try:
        done = subprocess.run(  # noqa: S603  the new agent
            command, capture_output=True, text=True, timeout=DOCTOR_SECONDS, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise UpgradeError(f"the new version's doctor takes longer than {DOCTOR_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise UpgradeError(f"the new version's doctor is not content:\n{(done.stdout + done.stderr).strip()[-3000:]}")


def _take_over(place: Home, former: Path) -> None:
    """End the agent, so that its service starts the new version; the former one again when that does not come up."""
    keeper.ask_to_end(place, CloseMode.DETACH)
    if not _wait(lambda: not _is_running(place)):
        keeper.use(place, former)
        keeper.stop_file(place).unlink(missing_ok=True)
        raise UpgradeError("the running agent does not end: end it, and try again")
    if not _wait(lambda: _is_running(place)):
        keeper.use(place, former)
        raise UpgradeError("the new version does not come up; the former one is the present one again")


def _wait(question: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TAKEOVER_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline:
        if question():
            return True
        pause.wait(_LOOK_SECONDS)
    return False


def _is_running(place: Home) -> bool:
    try:
        os.close(selected().lock(place.state / "agent.lock"))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
