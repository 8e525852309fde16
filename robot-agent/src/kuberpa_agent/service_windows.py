"""The Windows service: keeps an agent in the session of the user for whom it was installed, or in its own.

It runs as SYSTEM in session 0, which has no desktop, and works for nobody itself: `kuberpa_agent.keeper` does, and here
is how Windows starts and stops that, and how an agent gets into a session.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kuberpa_agent import windows_access
from kuberpa_agent.home import Home, HomeError
from kuberpa_agent.keeper import Child, Keeper, start_here
from kuberpa_agent.logs import log_to_file
from kuberpa_agent.worker import rundir

assert sys.platform == "win32"  # noqa: S101  tells type checkers, and anyone who imports it elsewhere

import pywintypes  # noqa: E402  only there
import servicemanager  # noqa: E402  as above
import win32con  # noqa: E402  as above
import win32event  # noqa: E402  as above
import win32process  # noqa: E402  as above
import win32profile  # noqa: E402  as above
import win32service  # noqa: E402  as above
import win32serviceutil  # noqa: E402  as above
import win32ts  # noqa: E402  as above

log = logging.getLogger(__name__)

NAME: Final = "kuberpa-agent"
_SETTINGS: Final = "service.json"
_STOP_SECONDS: Final = 90
_STATES: Final = {
    win32service.SERVICE_STOPPED: "stopped",
    win32service.SERVICE_START_PENDING: "starting",
    win32service.SERVICE_STOP_PENDING: "stopping",
    win32service.SERVICE_RUNNING: "running",
}


def install(place: Home, user: str | None) -> str:
    """Register the service, to start with Windows. `user`: in whose session; None: without a desktop."""
    place.membership()  # a service for nobody would fail again and again
    place.prepare()
    if user is not None:
        windows_access.grant(place.folder, user)
    rundir.write_json(place.folder / _SETTINGS, {"user": user}, durable=True)
    command = f'"{sys.executable}" -m kuberpa_agent service run --home "{place.folder}"'
    with _manager(win32service.SC_MANAGER_ALL_ACCESS) as manager:
        handle = win32service.CreateService(
            manager,
            NAME,
            "kuberpa robot agent",
            win32service.SERVICE_ALL_ACCESS,
            win32service.SERVICE_WIN32_OWN_PROCESS,
            win32service.SERVICE_AUTO_START,
            win32service.SERVICE_ERROR_NORMAL,
            command,
            None,
            0,
            None,
            None,
            None,
        )
        win32service.CloseServiceHandle(handle)
    win32serviceutil.StartService(NAME)
    return f"The service {NAME} is installed and started" + (
        f"; its agent works where {user} is logged on" if user else ""
    )


def uninstall() -> str:
    """End and unregister it; the agent's folder stays."""
    if state() == "not installed":
        return f"The service {NAME} is not installed"
    if state() != "stopped":
        win32serviceutil.StopService(NAME)
        win32serviceutil.WaitForServiceStatus(NAME, win32service.SERVICE_STOPPED, _STOP_SECONDS)
    win32serviceutil.RemoveService(NAME)
    return f"The service {NAME} is removed"


def state() -> str:
    """What Windows says of it."""
    try:
        return _STATES.get(win32serviceutil.QueryServiceStatus(NAME)[1], "changing")
    except pywintypes.error as error:
        if error.winerror == 1060:  # noqa: PLR2004  ERROR_SERVICE_DOES_NOT_EXIST
            return "not installed"
        raise HomeError(f"the service cannot be looked at: {error.strerror}") from None


def run(place: Home, level: str) -> int:
    """What Windows starts."""
    place.prepare()
    log_to_file(level, place.log_file.with_name("service.log"))
    _Service.place = place
    servicemanager.Initialize(NAME, None)
    servicemanager.PrepareToHostSingle(_Service)
    servicemanager.StartServiceCtrlDispatcher()
    return 0


class _Service(win32serviceutil.ServiceFramework):  # type: ignore[misc]  # pywin32 has no types
    _svc_name_ = NAME
    _svc_display_name_ = "kuberpa robot agent"
    place: Home

    def __init__(self, arguments: Any) -> None:
        super().__init__(arguments)
        user = (rundir.read_json(self.place.folder / _SETTINGS) or {}).get("user")
        self._keeper = Keeper(self.place, start_here if user is None else _InSession(user).start)

    def SvcStop(self) -> None:  # noqa: N802  pywin32's name
        """Windows wants it to end."""
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=_STOP_SECONDS * 1000)
        self._keeper.end()

    def SvcShutdown(self) -> None:  # noqa: N802  as above
        """Windows shuts down."""
        self.SvcStop()

    def SvcDoRun(self) -> None:  # noqa: N802  as above
        """Until SvcStop."""
        try:
            self._keeper.run()
        except Exception:
            log.exception("the service failed")
            raise


class _InSession:
    """Starts agents in a user's session."""

    def __init__(self, user: str) -> None:
        self._user = user

    def start(self, command: Sequence[str]) -> Child | None:
        """In the session of the user; None while there is none."""
        session = self._session()
        if session is None:
            return None
        token = win32ts.WTSQueryUserToken(session)
        startup = win32process.STARTUPINFO()
        startup.lpDesktop = "winsta0\\default"
        flags = win32con.CREATE_NO_WINDOW | win32con.CREATE_NEW_PROCESS_GROUP | win32process.CREATE_UNICODE_ENVIRONMENT
        line = " ".join(f'"{word}"' for word in command)
        environment = win32profile.CreateEnvironmentBlock(token, False)
        folder = str(Path(command[0]).parent)
        process, thread, pid, _ = win32process.CreateProcessAsUser(
            token, None, line, None, None, False, flags, environment, folder, startup
        )
        thread.Close()
        token.Close()
        return _SessionChild(process, pid)

    def _session(self) -> int | None:
        wanted = self._user.rpartition("\\")[2].lower()
        for entry in win32ts.WTSEnumerateSessions(win32ts.WTS_CURRENT_SERVER_HANDLE):
            number = entry["SessionId"]
            name = win32ts.WTSQuerySessionInformation(win32ts.WTS_CURRENT_SERVER_HANDLE, number, win32ts.WTSUserName)
            if name.lower() == wanted and entry["State"] in {win32ts.WTSActive, win32ts.WTSDisconnected}:
                return int(number)
        return None


class _SessionChild:
    """A process in another session."""

    def __init__(self, process: Any, pid: int) -> None:
        self.pid = pid
        self._process = process

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        if win32event.WaitForSingleObject(self._process, 0) == win32event.WAIT_TIMEOUT:
            return None
        return int(win32process.GetExitCodeProcess(self._process))

    def kill(self) -> None:
        """End it at once."""
        win32process.TerminateProcess(self._process, 1)


class _manager:  # noqa: N801  a context, not a thing
    """The service control manager. Raises HomeError without the right to it."""

    def __init__(self, access: int) -> None:
        self._access = access

    def __enter__(self) -> Any:
        try:
            self._handle = win32service.OpenSCManager(None, None, self._access)
        except pywintypes.error as error:
            raise HomeError(f"services cannot be changed: {error.strerror}; run it as administrator") from None
        return self._handle

    def __exit__(self, *_: object) -> None:
        win32service.CloseServiceHandle(self._handle)
