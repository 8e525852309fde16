"""Starts the agent in the interactive session of a user, from a shell that is in none: by a scheduled task.

A task whose principal has the logon type InteractiveToken runs in a session that its user has, and nowhere else: no
password is stored, and without such a session nothing is started. What schtasks prints is translated, so only its
exit codes are read.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

FILE: Final = "task.xml"
_SECONDS: Final = 15.0
"""For each of two programs within one call, which has a minute."""
_TASK: Final = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>The agent of a kuberpa robot, in its session</Description></RegistrationInfo>
  <Principals>
    <Principal id="robot">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
  </Settings>
  <Actions Context="robot">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


class TaskError(Exception):
    """The task could not be made or started; the message says what was tried."""


def name_of(robot: Path) -> str:
    """One task a robot."""
    return f"kuberpa\\{robot.name}"


def text_of(robot: Path, user: str, command: list[str]) -> str:
    """What is registered."""
    return _TASK.format(
        user=escape(user),
        command=escape(command[0]),
        arguments=escape(subprocess.list2cmdline(command[1:])),
        folder=escape(str(robot)),
    )


def start(robot: Path, user: str, command: list[str]) -> None:
    """Have a command started in the user's session, if there is one. Raises TaskError, OSError."""
    file = robot / FILE
    file.write_bytes(text_of(robot, user, command).encode("utf-16"))
    _schtasks("/Create", "/TN", name_of(robot), "/XML", str(file), "/F")
    _schtasks("/Run", "/I", "/TN", name_of(robot))


def delete(robot: Path) -> None:
    """Have no such task. What it has started goes on."""
    if (robot / FILE).exists():
        _schtasks("/Delete", "/TN", name_of(robot), "/F")
        (robot / FILE).unlink()


def _schtasks(*arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603  Windows' own program
            [_program(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TaskError(f"schtasks {arguments[0]}: {error}") from None
    if done.returncode != 0:
        encoding = "oem" if sys.platform == "win32" else "utf-8"
        said = (done.stderr or done.stdout).decode(encoding, "replace").strip()[-400:] or "nothing"
        raise TaskError(f"schtasks {arguments[0]} ended with exit code {done.returncode} and said: {said}")


def _program() -> str:
    """Windows' own, wherever PATH leads; elsewhere, in tests of this module, what PATH leads to."""
    if sys.platform != "win32":
        return "schtasks"
    return os.path.join(os.environ["SYSTEMROOT"], "System32", "schtasks.exe")  # noqa: PTH118  a Windows path
