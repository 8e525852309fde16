"""The robot's session and machine, seen and used from an activity."""

import base64
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Literal

from kuberpa_agent.sdk import activity, running

_MAX_IMAGE_BYTES: Final = 3 * 1024 * 1024
"""With base64 and what is around it, what a result may have."""


@activity(name="session.info")
def session_info() -> dict[str, Any]:
    """The graphical session that activities of this robot work in.

    Result: state (Active, Disconnected, Locked, LoggedOff or None), user, id, width, height, and message where it is
    not active.
    """
    seen = _observe()
    empty = {"state": "None", "user": "", "id": 0, "width": 0, "height": 0, "message": ""}
    return {key: seen.get(key, value) for key, value in empty.items()}


@activity(name="session.screenshot")
def session_screenshot(
    path: str | None = None,
    *,
    format: Literal["jpeg", "png"] = "jpeg",  # noqa: A002  what it is
    max_width: int = 0,
    max_height: int = 0,
    quality: int = 75,
) -> dict[str, Any]:
    """A picture of the robot's screen, made smaller to fit max_width and max_height (0: as it is).

    Result: width, height (of the screen), format, and data (base64); with `path` it is written to that file instead.
    Fails with the reason where the screen cannot be captured: there is none, it is locked or disconnected.
    """
    from kuberpa_agent.screen.capture import Screen  # noqa: PLC0415  costs 0.2 s that others need not pay

    if not 1 <= quality <= 95:  # noqa: PLR2004  Pillow's useful range
        raise ValueError("quality must be from 1 to 95")
    if max_width < 0 or max_height < 0:
        raise ValueError("max_width and max_height must not be negative")
    with Screen() as screen:
        frame = screen.grab()
    data = frame.jpeg(quality, max_width, max_height) if format == "jpeg" else frame.png(max_width, max_height)
    told = {"width": frame.width, "height": frame.height, "format": format}
    if path is not None:
        from kuberpa_agent.builtin.files import resolve  # noqa: PLC0415  with its checks

        target = resolve(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return {**told, "path": str(target), "size": len(data)}
    if len(data) > _MAX_IMAGE_BYTES:
        raise ValueError(f"the picture has {len(data)} bytes: give path, max_width, or format jpeg")
    return {**told, "data": base64.b64encode(data).decode()}


@activity(name="session.lock")
def session_lock() -> None:
    """Lock the screen of the robot's session, on Windows. Activities that need a session wait then."""
    if sys.platform == "win32":
        from kuberpa_agent.platform import windows_desktop  # noqa: PLC0415  importable only there

        windows_desktop.lock()
        return
    raise NotImplementedError("a virtual X display has no lock: session.lock works on Windows")


@activity(name="session.logoff")
def session_logoff() -> dict[str, Any]:
    """End the robot's session with all programs in it. A session that is kept alive is opened anew.

    On a host that is reached over WinRM it is the session of the robot's user, wherever this activity runs. On Linux
    the programs that have windows on the robot's display are disconnected from it. Result: windows, how many.
    """
    if sys.platform == "win32":
        from kuberpa_agent.platform import windows_desktop, wts  # noqa: PLC0415  importable only there

        if windows_desktop.own_session() != wts.SERVICES_SESSION:
            windows_desktop.log_off()
            return {}
        user = os.environ.get(running.SESSION_USER_VARIABLE) or os.environ.get("USERNAME", "")
        numbers = windows_desktop.sessions_of(user)
        if not numbers:
            raise LookupError(f"{user} has no session on this machine")
        for number in numbers:
            windows_desktop.log_off(number)
        return {"sessions": numbers}
    from kuberpa_agent.screen.windows_x11 import end_all  # noqa: PLC0415  as above

    return {"windows": end_all()}


@activity(name="host.info")
def host_info() -> dict[str, Any]:
    """The machine that this robot works on: hostname, os, architecture, cpus, memory, disk, when it was booted."""
    import psutil  # noqa: PLC0415  costs 20 ms that others need not pay

    memory, disk = psutil.virtual_memory(), psutil.disk_usage(Path.cwd().anchor or "/")
    return {
        "hostname": socket.gethostname(),
        "os": platform.platform(),
        "architecture": platform.machine(),
        "cpus": psutil.cpu_count() or 0,
        "memoryBytes": memory.total,
        "memoryAvailableBytes": memory.available,
        "diskBytes": disk.total,
        "diskFreeBytes": disk.free,
        "bootedAt": psutil.boot_time(),
    }


@activity(name="host.restart")
def host_restart(*, delay_seconds: int = 5, comment: str = "") -> dict[str, Any]:
    """Restart the Windows machine that this robot works on, with everything on it, after delay_seconds.

    Other robots on it lose what they are doing. A pod has no machine of its own: restart the Robot instead.
    """
    if not 0 <= delay_seconds <= 3600:  # noqa: PLR2004  an hour
        raise ValueError("delay_seconds must be from 0 to 3600")
    if sys.platform != "win32":
        raise NotImplementedError("host.restart works on Windows machines; a robot in a pod is restarted as a Robot")
    from kuberpa_agent.platform.windows_desktop import system_program  # noqa: PLC0415  importable only there

    command = [system_program("shutdown.exe"), "/r", "/t", str(delay_seconds), "/c", comment[:500] or "kuberpa"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)  # noqa: S603  Windows' own program
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("oem", "replace").strip()
        raise PermissionError(f"shutdown.exe: {said or done.returncode}")
    return {"delaySeconds": delay_seconds}


def _observe() -> dict[str, Any]:
    if sys.platform == "win32":
        from kuberpa_agent.platform import windows_desktop  # noqa: PLC0415  importable only there

        return windows_desktop.look()
    else:  # noqa: RET505  type checkers follow the branches of one statement
        from kuberpa_agent.screen.windows_x11 import look  # noqa: PLC0415  what an idle worker does without

        return look() if os.environ.get("DISPLAY") else {"message": "no X display is set"}
