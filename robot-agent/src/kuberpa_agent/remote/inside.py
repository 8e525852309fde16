"""The robot's agent in its session on a host: `boot.py kuberpa_agent.remote.inside ROBOT`, started by a scheduled task.

It says what it sees of the session, brings a console session back that was disconnected, and starts the runs that
belong into the session. Runs are beside it, each with its shim: they outlive it, and the next one goes on without them.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import selected
from kuberpa_agent.remote import presence
from kuberpa_agent.worker import rundir

LOOK_SECONDS: Final = 0.1
SEE_SECONDS: Final = 2.0
RETURN_SECONDS: Final = 60.0
"""A session is brought back to the console at most this often."""
AGAIN_SECONDS: Final = 15.0
"""A run that nothing has claimed for so long is started once more: only one shim claims it."""


class Inside:
    """One robot's agent in its session."""

    def __init__(self, robot: Path) -> None:
        self._robot = robot
        self._launched: dict[str, float] = {}
        self._see_at = self._returned = float("-inf")
        self._why = ""

    def run(self) -> None:
        """Until another version, or none, is wanted here."""
        while (wanted := rundir.read_json(self._robot / presence.WISH)) is not None:
            if wanted["agent"] != presence.version():
                return
            now = time.monotonic()
            if now >= self._see_at:
                self._see_at = now + SEE_SECONDS
                self._see(wanted, now)
            self._launch(now)
            time.sleep(LOOK_SECONDS)  # noqa: TID251  files of another session wake nobody

    def _see(self, wanted: dict[str, Any], now: float) -> None:
        seen = look()
        returns = wanted["keep"] and wanted["type"] == "Console"
        if sys.platform == "win32" and returns and seen["state"] == "Disconnected":
            from kuberpa_agent.platform import windows_desktop  # noqa: PLC0415  importable only there

            if now - self._returned >= RETURN_SECONDS:
                self._returned, self._why = now, windows_desktop.to_console(seen["id"])
            seen |= {"cause": "NotOnConsole", "message": self._why}
        document = {
            "pid": os.getpid(),
            "identity": selected().process_identity(os.getpid()),
            "boot": selected().boot_id(),
            "agent": presence.version(),
            "monotonic": now,
            "seen": seen,
        }
        with contextlib.suppress(OSError):  # a full disk: what was seen grows old, which says that nothing is known
            rundir.write_json(self._robot / presence.SEEN, document)

    def _launch(self, now: float) -> None:
        """Start the shims of the runs that belong into the session and are not claimed."""
        with contextlib.suppress(FileNotFoundError):
            for directory in (self._robot / "runs").iterdir():
                lately = now - self._launched.get(directory.name, float("-inf")) < AGAIN_SECONDS
                if lately or (directory / rundir.STATE).exists():
                    continue
                job = rundir.read_json(directory / rundir.JOB)
                if job is not None and job.get("interactive"):
                    self._launched[directory.name] = now
                    start(directory)


def look() -> dict[str, Any]:
    """The session that this process is in: fields of kuberpa.session.Observed."""
    if sys.platform == "win32":
        from kuberpa_agent.platform import windows_desktop  # noqa: PLC0415  importable only there

        return windows_desktop.look()
    else:  # noqa: RET505  type checkers follow the branches of one statement
        from kuberpa_agent.screen import windows_x11  # noqa: PLC0415  as above

        return windows_x11.look()


def start(directory: Path) -> None:
    """Start the shim of a run beside this process, in this session."""
    python = sys.executable.replace("pythonw.exe", "python.exe")
    boot = os.environ["KUBERPA_BOOT"]
    command = [python, "-I", "-u", "-X", "utf8", boot, "kuberpa_agent.remote.shim", str(directory)]
    if sys.platform != "win32":
        _popen(command, directory, start_new_session=True)
        return
    flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    try:
        _popen(command, directory, creationflags=flags | subprocess.CREATE_BREAKAWAY_FROM_JOB)
    except PermissionError:  # the task's job keeps what it starts, and ends with the session as the run would
        _popen(command, directory, creationflags=flags)


def _popen(command: list[str], directory: Path, **options: Any) -> None:
    subprocess.Popen(  # noqa: S603  our own module
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )


def main() -> None:
    """Be the robot's agent in this session, if none is yet."""
    robot = Path(sys.argv[1])
    try:
        lock = selected().lock(robot / "inside.lock")
    except BlockingIOError:
        return
    try:
        Inside(robot).run()
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()
