import codecs
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

from kuberpa_agent.platform import cgroup, linux_proc
from kuberpa_agent.platform.base import CONTROL_VARIABLE, Command, Tree, TreeEvent

assert sys.platform != "win32"  # noqa: S101  tells type checkers, and anyone who imports it there

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_READ_BYTES: Final = 65536
_EXEC_FAILED: Final = 127
MARKER_VARIABLE: Final = "KUBERPA_RUN"
MARKER_WIDTH: Final = 128


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class LinuxPlatform:
    """Linux: fork, process groups, subreaper, /proc."""

    name = "linux"
    can_fork = True
    is_remote = False

    def warm_up(self) -> None:
        """Load libc and codecs."""
        _libc()
        self.boot_id()
        codecs.getincrementaldecoder(self.default_encoding())

    def boot_id(self) -> str:
        """The kernel's boot id."""
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def process_identity(self, pid: int) -> str | None:
        """Start time in clock ticks since boot."""
        process = linux_proc.read(pid)
        return None if process is None or process.state in "ZX" else process.started

    def default_encoding(self) -> str:
        """UTF-8, as every current distribution."""
        return "utf-8"

    def lock(self, path: Path) -> int:
        """Take flock(2) on the file."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise
        return fd

    def wake_shim(self, pid: int, identity: str) -> None:
        """SIGUSR1, by a pidfd so that it cannot reach a later process of that PID."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.process_identity(pid) == identity:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(fd, signal.SIGUSR1)
        finally:
            os.close(fd)

    def kill_run(self, state: Mapping[str, Any], marker: str, deadline_seconds: float) -> tuple[int, ...]:
        """Kill by cgroup, and by the marker in each process's environment."""
        group = str(state.get("cgroup") or "")
        cgroup.kill(group)
        needle = f"{MARKER_VARIABLE}={marker}".encode()

        def victims() -> set[int]:
            return linux_proc.marked(needle) | cgroup.members(group)

        survivors = linux_proc.kill_all(victims, lambda: True, deadline_seconds)
        cgroup.remove(group)
        return survivors

    def become_shim(self) -> None:
        """Own session, subreaper; SIGTERM and SIGUSR1 only wake it."""
        with contextlib.suppress(PermissionError):  # it leads a session already
            os.setsid()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        _Wakeup.fd = read_end
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, _Wakeup.note)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def mark(self, marker: str) -> None:
        """See `brand`."""
        brand(marker)

    def terminate_requested(self) -> bool:
        """Whether SIGTERM came."""
        return _Wakeup.terminate

    def make_group(self, name: str) -> str:
        """A cgroup, where one can be made."""
        return cgroup.create(name)

    def open_control(self) -> int:
        """The inherited descriptor."""
        return int(os.environ.pop(CONTROL_VARIABLE))

    def spawn(self, command: Command, control: bool, group: str) -> Tree:
        """Fork and exec; the failure of exec arrives as an OSError."""
        report_read, report_write = os.pipe2(os.O_CLOEXEC)

        def payload(channel: int) -> None:
            try:
                _exec(command, channel if control else None)
            except OSError as error:
                os.write(report_write, f"{error.errno}\n{error.strerror}\n{error.filename or ''}".encode())
                os._exit(_EXEC_FAILED)

        tree = self.fork(payload, group)
        os.close(report_write)
        with os.fdopen(report_read, "rb") as file:
            failure = file.read().decode()
        if failure:
            tree.kill(frozenset(), 1.0)
            tree.close()
            number, text, name = failure.split("\n", 2)
            raise OSError(int(number), text, name or command.argv[0])
        return tree

    def fork(self, payload: Callable[[int], None], group: str) -> Tree:
        """Fork with pipes for stdout, stderr and the control channel."""
        pipes = {name: os.pipe2(os.O_CLOEXEC) for name in ("stdout", "stderr", "control")}
        shim = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_payload(payload, pipes, shim, group)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # whichever of the two comes first: `ask` must find the group
        for _, write_end in pipes.values():
            os.close(write_end)
        return LinuxTree(pid, {name: ends[0] for name, ends in pipes.items()}, group)


class _Wakeup:
    """Signals that arrived since they were last looked at."""

    fd = -1
    terminate = False

    @classmethod
    def note(cls, number: int, _frame: object) -> None:
        cls.terminate = cls.terminate or number == signal.SIGTERM


class LinuxTree:
    """A forked payload below this subreaper: whatever it starts stays below, however often it forks."""

    def __init__(self, pid: int, outputs: Mapping[str, int], group: str) -> None:
        self.pid = pid
        self._names = {fd: name for name, fd in outputs.items()}
        self._cgroup = group
        self._status: int | None = None
        self._poll = select.poll()
        self._poll.register(_Wakeup.fd, select.POLLIN)
        for fd in self._names:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)

    def wait(self, timeout: float) -> list[TreeEvent]:
        """Poll the pipes and the signals."""
        events = []
        for fd, _ in self._poll.poll(max(0.0, timeout) * 1000):
            if fd == _Wakeup.fd:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, _READ_BYTES)
                events.append(TreeEvent("signal", b""))
                continue
            with contextlib.suppress(BlockingIOError):
                data = os.read(fd, _READ_BYTES)
                events.append(TreeEvent(self._names[fd], data))
                if not data:
                    self._forget(fd)
        self._reap()
        return events

    def exit_status(self) -> int | None:
        """As subprocess.Popen.returncode."""
        return self._status

    def ask(self) -> None:
        """SIGTERM to the payload's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)

    def group_alive(self) -> bool:
        """Whether anything is left in the payload's process group."""
        self._reap()
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def kill(self, spare: frozenset[int], deadline_seconds: float) -> tuple[int, ...]:
        """The kernel's word counts: a subreaper without children has no descendants."""
        if not self._reap():
            return ()
        if not spare:
            cgroup.kill(self._cgroup)

        def victims() -> set[int]:
            self._reap()
            processes = linux_proc.table()
            spared = spare | linux_proc.descendants(spare, processes)
            return linux_proc.descendants([os.getpid()], processes) - spared

        return linux_proc.kill_all(victims, lambda: bool(spare) or not self._reap(), deadline_seconds)

    def kill_strays(self, marker: str, deadline_seconds: float) -> tuple[int, ...]:
        """By the environment, as far as this user may read it: `at` and others copy that of whoever asks them."""
        needle = f"{MARKER_VARIABLE}={marker}".encode()
        return linux_proc.kill_all(lambda: linux_proc.marked(needle), lambda: True, deadline_seconds)

    def close(self) -> None:
        """Close the pipes and remove the cgroup."""
        for fd in list(self._names):
            self._forget(fd)
        cgroup.remove(self._cgroup)

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._names[fd]
        os.close(fd)

    def _reap(self) -> bool:
        """Collect the dead; tells whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self._status = os.waitstatus_to_exitcode(status)


def brand(marker: str) -> None:
    """Put the marker where /proc/PID/environ shows it, which setenv does not.

    The kernel shows the memory that execve filled. The fork server was started with a placeholder of
    MARKER_WIDTH in its environment; a fork overwrites its own copy, and every process below inherits it,
    with exec (os.environ) and without (the memory).
    """
    libc = _libc()
    libc.getenv.restype = ctypes.c_void_p
    address = libc.getenv(MARKER_VARIABLE.encode())
    if address is not None:
        value = marker.encode()[:MARKER_WIDTH]
        if len(ctypes.string_at(address)) == MARKER_WIDTH:
            ctypes.memset(address, 0, MARKER_WIDTH)
            ctypes.memmove(address, value, len(value))
    os.environ[MARKER_VARIABLE] = marker


def _prctl(option: int, argument: int) -> None:
    if _libc().prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _be_payload(
    payload: Callable[[int], None], pipes: Mapping[str, tuple[int, int]], shim: int, group: str
) -> NoReturn:
    """Child side of the fork; never returns into the shim's code."""
    code = 1
    try:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim:
            os._exit(1)
        os.close(signal.set_wakeup_fd(-1))
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.close(_Wakeup.fd)
        cgroup.enter(group)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(pipes["stdout"][1], 1)
        os.dup2(pipes["stderr"][1], 2)
        for read_end, _ in pipes.values():
            os.close(read_end)
        payload(pipes["control"][1])
        code = 0
    except BaseException:  # noqa: BLE001  the edge of the process: nothing may unwind into the shim
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _exec(command: Command, channel: int | None) -> NoReturn:
    if command.stdin is not None:
        os.dup2(command.stdin if isinstance(command.stdin, int) else os.open(command.stdin, os.O_RDONLY), 0)
    env = dict(command.env)
    if channel is not None:
        os.set_inheritable(channel, True)
        env[CONTROL_VARIABLE] = str(channel)
    os.chdir(command.cwd)
    os.execvpe(command.argv[0], list(command.argv), env)  # noqa: S606  the point of it
