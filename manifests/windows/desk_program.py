"""A program as a robot on Windows keeps it running: works in steps, waits while the robot is paused, ends when asked.

It uses nothing of kuberpa, so it shows what a program in any language does:

    KUBERPA_STOP_EVENT         a named event, set when the program is to end: wait for it instead of sleeping
    KUBERPA_ROBOT_STATE_FILE   JSON; {"state": "Paused"} while the robot is paused
    KUBERPA_HELD_FILE          create it while you wait for that to pass, remove it when you go on
"""

import ctypes
import json
import os
import sys
from pathlib import Path

SYNCHRONIZE = 0x100000
STEP_MILLISECONDS = 100
SIGNALED = 0


class Ending:
    """The event by which this program is told to end."""

    def __init__(self, name: str) -> None:
        self._kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        self._kernel32.OpenEventW.restype = ctypes.c_void_p
        self._event = self._kernel32.OpenEventW(SYNCHRONIZE, False, name)
        if not self._event:
            raise ctypes.WinError(ctypes.get_last_error())

    def within(self, milliseconds: int) -> bool:
        """Wait at most so long; whether this program is to end."""
        return self._kernel32.WaitForSingleObject(ctypes.c_void_p(self._event), milliseconds) == SIGNALED


def is_paused() -> bool:
    """Whether the robot is paused now."""
    try:
        return json.loads(Path(os.environ["KUBERPA_ROBOT_STATE_FILE"]).read_bytes())["state"] == "Paused"
    except (OSError, ValueError):  # it is being replaced at this moment
        return False


def hold(ending: Ending) -> bool:
    """Wait until the robot goes on; whether this program is to end meanwhile."""
    held = Path(os.environ["KUBERPA_HELD_FILE"])
    held.touch()
    print("held", flush=True)
    try:
        while is_paused():
            if ending.within(STEP_MILLISECONDS):
                return True
    finally:
        held.unlink(missing_ok=True)
    print("goes on", flush=True)
    return False


def main() -> None:
    """Work until asked to end."""
    ending = Ending(os.environ["KUBERPA_STOP_EVENT"])
    print("working", flush=True)
    steps = 0
    while not ending.within(STEP_MILLISECONDS):
        if is_paused() and hold(ending):
            break
        steps += 1  # here the work would be
    print(f"ended in order after {steps} steps", flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
