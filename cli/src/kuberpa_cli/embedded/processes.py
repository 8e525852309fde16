"""Starting processes that can be found again, and ending all of them.

Every process that a cluster starts inherits the marker KUBERPA_CLUSTER=<cluster id> in its environment.
`Sweep` finds marked processes and all their descendants (a program may have emptied its environment), stops them
first so that none forks away while others are looked for, and kills until nothing is left.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

import psutil

from kuberpa_cli.waiting import pause

CLUSTER_MARKER = "KUBERPA_CLUSTER"
NETWORK_VARIABLES = (
    *(
        name
        for upper in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        for name in (upper, upper.lower())
    ),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"),
)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """A process beyond doubt: PIDs are used again, a PID with its creation time is not."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The identity of a live process; None when there is no such process."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            return (
                abs(process.create_time() - self.created) < 0.05  # noqa: PLR2004 - the kernel's clock tick
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False

    def send(self, sig: signal.Signals) -> None:
        """Signal the process; nothing happens when it has ended meanwhile."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


def arrange(*, tied: bool, confined: bool) -> Callable[[], None]:
    """A `preexec_fn`: a tied child is killed by the kernel when its parent dies, a confined one has no_new_privs."""
    parent = os.getpid()

    def in_child() -> None:
        if confined:
            _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if tied:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return in_child


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process instead of init's."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


Belongs = Callable[[psutil.Process], bool]


def marked(name: str, value: str) -> Belongs:
    """Whether a process has NAME=value in the environment it was started with."""

    def belongs(process: psutil.Process) -> bool:
        return process.environ().get(name) == value

    return belongs


def owned_by(uids: range) -> Belongs:
    """Whether a process runs as a user in the range."""

    def belongs(process: psutil.Process) -> bool:
        return any(uid in uids for uid in process.uids())

    return belongs


def find(tests: Iterable[Belongs], *, spare: Iterable[int] = ()) -> list[psutil.Process]:
    """Live processes that pass one of the tests, and their descendants; never this process or `spare`."""
    tests = tuple(tests)
    spared = {os.getpid(), *spare}
    children: dict[int, list[psutil.Process]] = {}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            children.setdefault(process.ppid(), []).append(process)
            if process.status() != psutil.STATUS_ZOMBIE and _passes(process, tests):
                found[process.pid] = process
    queue = [pid for pid in found if pid not in spared]
    while queue:
        for child in children.get(queue.pop(), []):
            if child.pid not in found:
                found[child.pid] = child
                queue.append(child.pid)
    return [p for p in found.values() if p.pid not in spared and _lives(p)]


def sweep(tests: Iterable[Belongs], *, spare: Iterable[int] = (), seconds: float = 10) -> list[int]:
    """Kill until no process passes the tests; the PIDs that were left when time ran out, which must be none."""
    tests = tuple(tests)
    spared = tuple(spare)
    deadline = monotonic() + seconds
    while left := find(tests, spare=spared):
        for sig in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(sig)
            if sig is signal.SIGSTOP:
                left = find(tests, spare=spared)
        if monotonic() > deadline:
            return [process.pid for process in find(tests, spare=spared)]
        pause(0.02)
    return []


def _passes(process: psutil.Process, tests: Iterable[Belongs]) -> bool:
    for test in tests:
        with contextlib.suppress(psutil.Error, OSError):
            if test(process):
                return True
    return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
