"""Windows: started ahead instead of forked; a Job Object holds each tree and ends it when its shim ends.

Only the C API by ctypes: this also runs in robots' environments, which have no pywin32.
"""

import contextlib
import ctypes
import msvcrt
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import winreg
from collections.abc import Callable, Mapping
from ctypes import wintypes
from pathlib import Path
from typing import IO, Any, Final

from kuberpa_agent.platform.base import CONTROL_VARIABLE, Command, Tree, TreeEvent

assert sys.platform == "win32"  # noqa: S101  tells type checkers, and anyone who imports it elsewhere

MARKER_VARIABLE: Final = "KUBERPA_RUN"
STOP_EVENT_VARIABLE: Final = "KUBERPA_STOP_EVENT"
"""Name of an event that is set when a stop is asked for, for programs that wait on objects."""

_READ_BYTES: Final = 65536
_QUEUE_EVENTS: Final = 64
_POLL_SECONDS: Final = 0.02
_CREATE_SUSPENDED: Final = 0x4
_QUERY_LIMITED: Final = 0x1000
_SYNCHRONIZE: Final = 0x100000
_WAIT_TIMEOUT: Final = 0x102
_EVENT_MODIFY_STATE: Final = 0x2
_JOB_OBJECT_TERMINATE: Final = 0x8
_JOB_OBJECT_QUERY: Final = 0x4
_INFINITE: Final = 0xFFFFFFFF
_BASIC_PROCESS_ID_LIST: Final = 3
_EXTENDED_LIMIT: Final = 9
_LIMIT_KILL_ON_JOB_CLOSE: Final = 0x2000
_LIMIT_BREAKAWAY_OK: Final = 0x800
_MAX_PIDS: Final = 4096
_CTRL_BREAK_EVENT: Final = 1

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
for _name in ("CreateJobObjectW", "OpenJobObjectW", "CreateEventW", "OpenEventW", "OpenProcess"):
    getattr(_kernel32, _name).restype = wintypes.HANDLE


class _BasicLimit(ctypes.Structure):
    _fields_ = (
        ("per_process_user_time", ctypes.c_int64),
        ("per_job_user_time", ctypes.c_int64),
        ("flags", wintypes.DWORD),
        ("minimum_working_set", ctypes.c_size_t),
        ("maximum_working_set", ctypes.c_size_t),
        ("active_processes", wintypes.DWORD),
        ("affinity", ctypes.c_size_t),
        ("priority_class", wintypes.DWORD),
        ("scheduling_class", wintypes.DWORD),
    )


class _ExtendedLimit(ctypes.Structure):
    _fields_ = (
        ("basic", _BasicLimit),
        ("io_counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


class _ProcessIdList(ctypes.Structure):
    _fields_ = (
        ("assigned", wintypes.DWORD),
        ("listed", wintypes.DWORD),
        ("pids", ctypes.c_size_t * _MAX_PIDS),
    )


class WindowsPlatform:
    """Job Objects, console events, named events."""

    name = "windows"
    can_fork = False
    is_remote = False

    def warm_up(self) -> None:
        """Nothing: there is no fork to share it with."""

    def boot_id(self) -> str:
        """The number of the boot, where Windows counts them; process identities do not depend on it."""
        path = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                return str(winreg.QueryValueEx(key, "BootId")[0])
        except OSError:
            return "windows"

    def process_identity(self, pid: int) -> str | None:
        """Creation time, in 100 ns since 1601."""
        handle = _kernel32.OpenProcess(_QUERY_LIMITED | _SYNCHRONIZE, False, pid)
        if not handle:
            return None
        try:
            if _kernel32.WaitForSingleObject(wintypes.HANDLE(handle), 0) != _WAIT_TIMEOUT:
                return None
            times = [wintypes.FILETIME() for _ in range(4)]
            if not _kernel32.GetProcessTimes(wintypes.HANDLE(handle), *(ctypes.byref(t) for t in times)):
                return None
            return str((times[0].dwHighDateTime << 32) + times[0].dwLowDateTime)
        finally:
            _close(handle)

    def default_encoding(self) -> str:
        """The console's code page, cp866 in Russian Windows."""
        return f"cp{_kernel32.GetOEMCP()}"

    def lock(self, path: Path) -> int:
        """Lock the file's first byte."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            os.close(fd)
            raise BlockingIOError(error.errno, "locked") from None
        return fd

    def wake_shim(self, pid: int, identity: str) -> None:
        """Set the shim's event."""
        if self.process_identity(pid) == identity:
            _set_event(_wake_event(pid))

    def kill_run(self, state: Mapping[str, Any], marker: str, deadline_seconds: float) -> tuple[int, ...]:  # noqa: ARG002
        """The job ended with the shim's handle to it; what is left of it is terminated again."""
        name = str(state.get("cgroup") or "")
        handle = _kernel32.OpenJobObjectW(_JOB_OBJECT_TERMINATE | _JOB_OBJECT_QUERY, False, name) if name else None
        if not handle:
            return ()
        try:
            return _terminate(handle, deadline_seconds)
        finally:
            _close(handle)

    def become_shim(self) -> None:
        """Listen for wake-ups; CTRL_BREAK only wakes too."""
        _Wakeup.event = _kernel32.CreateEventW(None, False, False, _wake_event(os.getpid()))
        signal.signal(signal.SIGBREAK, _Wakeup.note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def mark(self, marker: str) -> None:
        """By the environment, which children inherit. The stop event is there before any of them can look for it."""
        name = f"Local\\kuberpa-stop-{marker}"
        os.environ[MARKER_VARIABLE] = marker
        os.environ[STOP_EVENT_VARIABLE] = name
        _kernel32.CreateEventW(None, True, False, name)  # it lasts as long as this process and those that wait for it

    def terminate_requested(self) -> bool:
        """Whether CTRL_BREAK came."""
        return _Wakeup.terminate

    def make_group(self, name: str) -> str:
        """Name of the job; a run without one may let processes leave its job."""
        return f"Local\\{name}"

    def open_control(self) -> int:
        """A descriptor of the inherited handle."""
        return msvcrt.open_osfhandle(int(os.environ.pop(CONTROL_VARIABLE)), os.O_WRONLY)

    def spawn(self, command: Command, control: bool, group: str) -> Tree:
        """Start suspended, put into the job, resume: no child can slip out in between."""
        job = _make_job(group)
        read_end, write_end = os.pipe()
        startup = subprocess.STARTUPINFO()
        env = dict(command.env)
        if control:
            handle = msvcrt.get_osfhandle(write_end)
            os.set_handle_inheritable(handle, True)
            startup.lpAttributeList = {"handle_list": [handle]}
            env[CONTROL_VARIABLE] = str(handle)
        try:
            with _input(command.stdin) as stdin:
                process = subprocess.Popen(  # noqa: S603  the point of it
                    f'"{command.argv[0]}" {command.raw}' if command.raw is not None else list(command.argv),
                    executable=command.argv[0] if command.raw is not None else None,
                    cwd=command.cwd,
                    env=env,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    startupinfo=startup,
                    creationflags=_CREATE_SUSPENDED | subprocess.CREATE_NEW_PROCESS_GROUP,
                )
        except OSError as error:
            os.close(read_end)
            _close(job)
            raise OSError(error.errno, error.strerror, command.argv[0]) from None
        finally:
            os.close(write_end)
        process_handle = wintypes.HANDLE(int(process._handle))  # type: ignore[attr-defined]  # noqa: SLF001
        if not _kernel32.AssignProcessToJobObject(wintypes.HANDLE(job), process_handle):
            process.kill()
            raise ctypes.WinError(ctypes.get_last_error())
        _ntdll.NtResumeProcess(process_handle)
        return WindowsTree(process, job, os.fdopen(read_end, "rb", buffering=0))

    def fork(self, payload: Callable[[int], None], group: str) -> Tree:
        """There is none."""
        raise NotImplementedError("Windows has no fork")


class _Wakeup:
    """What arrived from outside the tree."""

    event: Any = None
    terminate = False

    @classmethod
    def note(cls, _number: int, _frame: object) -> None:
        cls.terminate = True


class WindowsTree:
    """A process in a job; threads carry its output into one queue."""

    def __init__(self, process: "subprocess.Popen[bytes]", job: int, control: IO[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._job = job
        self._events: queue.Queue[TreeEvent] = queue.Queue(_QUEUE_EVENTS)
        assert process.stdout is not None  # noqa: S101  both are pipes
        assert process.stderr is not None  # noqa: S101
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr), ("control", control)):
            threading.Thread(target=self._read, args=(name, stream), daemon=True).start()
        threading.Thread(target=self._watch_exit, daemon=True).start()
        threading.Thread(target=self._watch_wakeup, daemon=True).start()

    def wait(self, timeout: float) -> list[TreeEvent]:
        """Take what is in the queue."""
        events = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=max(0.0, timeout)))
            while len(events) < _QUEUE_EVENTS:
                events.append(self._events.get_nowait())
        return events

    def exit_status(self) -> int | None:
        """As subprocess.Popen.returncode: NTSTATUS codes are large positive numbers."""
        return self._process.poll()

    def ask(self) -> None:
        """CTRL_BREAK to the process group, and the named event."""
        # Not os.kill: where the event cannot be sent (to a program without a console), it ends the process instead.
        _kernel32.GenerateConsoleCtrlEvent(_CTRL_BREAK_EVENT, self.pid)
        _set_event(os.environ.get(STOP_EVENT_VARIABLE, ""))

    def group_alive(self) -> bool:
        """Whether the job has a process."""
        return bool(_members(self._job))

    def kill(self, spare: frozenset[int], deadline_seconds: float) -> tuple[int, ...]:  # noqa: ARG002  those left the job
        """Terminate the job until it is empty."""
        return _terminate(self._job, deadline_seconds)

    def kill_strays(self, marker: str, deadline_seconds: float) -> tuple[int, ...]:  # noqa: ARG002
        """None are known: what services and scheduled tasks start has their environment."""
        return ()

    def close(self) -> None:
        """Close the job, which would end whatever were left."""
        _close(self._job)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := stream.read(_READ_BYTES):
                self._events.put(TreeEvent(name, data))
        self._events.put(TreeEvent(name, b""))

    def _watch_exit(self) -> None:
        self._process.wait()
        self._events.put(TreeEvent("signal", b""))

    def _watch_wakeup(self) -> None:
        while _Wakeup.event:
            _kernel32.WaitForSingleObject(wintypes.HANDLE(_Wakeup.event), _INFINITE)
            self._events.put(TreeEvent("signal", b""))


@contextlib.contextmanager
def _input(source: Path | int | None) -> Any:
    """What becomes the program's standard input."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        yield subprocess.DEVNULL if source is None else source


def _make_job(name: str) -> int:
    handle = _kernel32.CreateJobObjectW(None, name or None)
    if not handle:
        raise ctypes.WinError(ctypes.get_last_error())
    limits = _ExtendedLimit()
    limits.basic.flags = _LIMIT_KILL_ON_JOB_CLOSE | (0 if name else _LIMIT_BREAKAWAY_OK)
    job = wintypes.HANDLE(handle)
    if not _kernel32.SetInformationJobObject(job, _EXTENDED_LIMIT, ctypes.byref(limits), ctypes.sizeof(limits)):
        raise ctypes.WinError(ctypes.get_last_error())
    return int(handle)


def _members(job: int) -> tuple[int, ...]:
    found = _ProcessIdList()
    size = ctypes.sizeof(found)
    query = _kernel32.QueryInformationJobObject
    # With more members than fit the call fails and still fills in what fits.
    query(wintypes.HANDLE(job), _BASIC_PROCESS_ID_LIST, ctypes.byref(found), size, None)
    return tuple(int(pid) for pid in found.pids[: min(found.listed, _MAX_PIDS)])


def _terminate(job: int, deadline_seconds: float) -> tuple[int, ...]:
    deadline = time.monotonic() + deadline_seconds
    while left := _members(job):
        _kernel32.TerminateJobObject(wintypes.HANDLE(job), 1)
        if time.monotonic() >= deadline:
            return left
        threading.Event().wait(_POLL_SECONDS)
    return ()


def _wake_event(pid: int) -> str:
    return f"Local\\kuberpa-wake-{pid}"


def _set_event(name: str) -> None:
    handle = _kernel32.OpenEventW(_EVENT_MODIFY_STATE, False, name) if name else None
    if handle:
        _kernel32.SetEvent(wintypes.HANDLE(handle))
        _close(handle)


def _close(handle: int) -> None:
    _kernel32.CloseHandle(wintypes.HANDLE(handle))
