"""Starts a run's shim so that it outlives the shell of the call: WinRM ends what a shell has started with it.

Two ways, and which one worked is proven, not assumed. A process that breaks away from the shell's job is started
suspended and resumed only when the kernel says that it is in no job. Where the job holds it, Win32_Process creates it,
whose parent is the WMI service. On Linux, where the tests of this module run too, a session of its own does it.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_SUSPENDED: Final = 0x4
_WMI_SECONDS: Final = 60.0
_WMI: Final = (
    "$r = Invoke-CimMethod Win32_Process Create -Arguments @{CommandLine=$env:KUBERPA_LAUNCH;"
    "CurrentDirectory=$env:KUBERPA_LAUNCH_DIR}; Write-Output $r.ReturnValue"
)
"""All the PowerShell there is."""


class LaunchError(Exception):
    """No way out of the shell worked; the message says what was tried."""


def launch(directory: Path) -> None:
    """Start the shim of a run directory. It may be started more than once: the first claims the run."""
    boot = os.environ["KUBERPA_BOOT"]
    command = [sys.executable, "-I", "-u", "-X", "utf8", boot, "kuberpa_agent.remote.shim", str(directory)]
    if sys.platform != "win32":
        _spawn(command, directory, start_new_session=True)
        return
    try:
        if _break_away(command, directory):
            return
        held = "the shell's job keeps what it starts"
    except OSError as error:
        held = f"the shell's job refuses that anything leaves it ({error.strerror})"
    _by_wmi(command, directory, held)


def _spawn(command: list[str], directory: Path, **options: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603  our own module
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )


def _break_away(command: list[str], directory: Path) -> bool:
    """Whether the process has left every job; one that has not is ended before it ran."""
    if sys.platform != "win32":
        return False
    flags = subprocess.CREATE_BREAKAWAY_FROM_JOB | subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    process = _spawn(command, directory, creationflags=flags | _SUSPENDED)
    kernel32, ntdll = ctypes.WinDLL("kernel32"), ctypes.WinDLL("ntdll")
    handle = ctypes.c_void_p(int(process._handle))  # noqa: SLF001
    inside = ctypes.c_int(1)
    kernel32.IsProcessInJob(handle, None, ctypes.byref(inside))
    if inside.value:
        process.kill()
        return False
    ntdll.NtResumeProcess(handle)
    return True


def _by_wmi(command: list[str], directory: Path, held: str) -> None:
    line = subprocess.list2cmdline(command)
    try:
        done = subprocess.run(  # noqa: S603  fixed words; what differs is in the environment
            ["powershell.exe", "-NoLogo", "-NoProfile", "-NonInteractive", "-Command", _WMI],  # noqa: S607  the host's
            env={**os.environ, "KUBERPA_LAUNCH": line, "KUBERPA_LAUNCH_DIR": str(directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WMI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{held}, and PowerShell cannot be asked: {error}") from None
    # No output at all is what a line that is too long, or a PowerShell that is none, answers with exit code 0.
    if done.stdout.strip() != b"0":
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-500:] or "nothing"
        raise LaunchError(f"{held}, and Win32_Process.Create said: {said}")
