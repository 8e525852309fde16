import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kuberpa_cli.embedded.processes import Identity, arrange

UNKNOWN_EXIT = 255
"""Reported for a process that another run started: its exit code is not to be had."""


@dataclass(frozen=True)
class User:
    """Numeric identity that a process runs under; it gets no supplementary groups."""

    uid: int
    gid: int


class Child:
    """A process that is waited for through its pidfd: no thread each, and adopted ones work the same."""

    def __init__(self, identity: Identity, popen: subprocess.Popen[bytes] | None) -> None:
        self.identity = identity
        self._popen = popen

    @classmethod
    def start(  # noqa: PLR0913  the parts of one process
        cls,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        user: User | None = None,
        tied: bool = True,
        confined: bool = False,
    ) -> "Child":
        """Start a process in a session of its own.

        `tied` ones are killed by the kernel with this process, `confined` ones never gain rights by set-uid programs.

        Raises OSError when the program cannot be started.
        """
        with log.open("ab") as output:
            popen = subprocess.Popen(  # noqa: S603 - callers pass fixed argument lists, no shell
                [str(part) for part in command],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # It only calls prctl, so other threads cannot hold a lock that it needs.
                preexec_fn=arrange(tied=tied, confined=confined),  # noqa: PLW1509
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                umask=0o077 if user else -1,
            )
        identity = Identity.of(popen.pid) or Identity(popen.pid, 0.0)
        return cls(identity, popen)

    @classmethod
    def adopt(cls, identity: Identity) -> "Child":
        """A process that another run started; its exit code is not to be had."""
        return cls(identity, None)

    @property
    def pid(self) -> int:
        """The process's PID, which is also its process group's and session's."""
        return self.identity.pid

    async def wait(self) -> int:
        """The exit code, negative for a signal, once the process has ended; UNKNOWN_EXIT for an adopted one."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return self._reap()
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        try:
            loop.add_reader(descriptor, ended.set)
            if self._popen is not None or self.identity.alive:
                await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self._reap()

    def send(self, sig: signal.Signals) -> None:
        """Signal the process alone."""
        if self._popen is not None:
            self._popen.send_signal(sig)
        else:
            self.identity.send(sig)

    def kill_group(self) -> None:
        """SIGKILL to the process and what it started in its own process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, sig: signal.Signals, seconds: float) -> int:
        """Signal, wait, then kill the whole process group; the exit code."""
        self.send(sig)
        try:
            code = await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            self.kill_group()
            code = await self.wait()
        self.kill_group()
        return code

    def _reap(self) -> int:
        return self._popen.wait() if self._popen is not None else UNKNOWN_EXIT
