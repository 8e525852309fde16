"""How a pod's agent comes to run: as a process of its own, or as one of many inside the simulator."""

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from kuberpa_cli.embedded.child import Child
from kuberpa_cli.embedded.processes import (
    CLUSTER_MARKER,
    NETWORK_VARIABLES,
    Belongs,
    Identity,
    become_subreaper,
    marked,
    owned_by,
    sweep,
)
from kuberpa_cli.runtime.pod import Pod
from kuberpa_cli.runtime.records import Record
from kuberpa_cli.runtime.volumes import Home

POD_MARKER = "KUBERPA_POD_UID"


@dataclass(frozen=True)
class Launch:
    """Everything an executor needs to start a pod's agent."""

    pod: Pod
    record: Record
    home: Home
    env: Mapping[str, str]
    token_file: Path | None
    log: Path


class Agent(Protocol):
    """A started agent."""

    @property
    def identity(self) -> Identity:
        """The process that runs it."""

    async def wait(self) -> int:
        """The exit code, once it has ended."""

    def send(self, sig: signal.Signals) -> None:
        """Ask it to end."""

    def kill_group(self) -> None:
        """End it."""


class Executor(Protocol):
    """Starts agents and proves that nothing is left of them."""

    def start(self, launch: Launch) -> Agent:
        """Start an agent; raises OSError when that is impossible."""

    def adopt(self, record: Record) -> Agent | None:
        """The agent that an earlier run of the runtime left running."""

    def sweep(self, record: Record) -> list[int]:
        """End every process of the pod; the PIDs that resisted, which must be none. Blocks."""

    def agent_user_id(self, own: int | None) -> int | None:
        """The user that reads the pod's volumes, given the pod's own."""


def machine_network(environ: Mapping[str, str]) -> dict[str, str]:
    """How this machine reaches package indexes, which an image would bring along; never a proxy's password."""
    found = {name: environ[name] for name in NETWORK_VARIABLES if name in environ}
    return {name: value for name, value in found.items() if "@" not in value}


class Processes:
    """One process for each pod, under the pod's own user when the runtime is root's."""

    def __init__(self, command: tuple[str | Path, ...], cluster_id: str, *, privileged: bool) -> None:
        self._command = command
        self._cluster_id = cluster_id
        self._privileged = privileged
        self._pids: set[int] = set()
        self._forking = threading.Lock()
        # Robots' orphans come to this process: it reaps them, and finds those that have no user of their own.
        become_subreaper()

    def start(self, launch: Launch) -> Agent:
        """Start the agent with the pod's environment and what every container has."""
        env = {
            "PATH": f"{Path(self._command[0]).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(launch.home.work),
            "TMPDIR": str(launch.home.temporary),
            "LANG": "C.UTF-8",
            "HOSTNAME": launch.pod.name,
            **machine_network(os.environ),
            **launch.env,
            CLUSTER_MARKER: self._cluster_id,
            POD_MARKER: launch.pod.uid,
        }
        command = (*self._command, *(launch.pod.container.get("args") or ()))
        with self._forking:
            child = Child.start(
                command,
                env=env,
                cwd=launch.home.work,
                log=launch.log,
                user=launch.record.user,
                # They outlive a crash of the runtime, which adopts them; the guardian ends them with the cluster.
                tied=False,
                confined=True,
            )
            self._pids.add(child.pid)
        return child

    def adopt(self, record: Record) -> Agent | None:
        """The recorded process, if it still is what was recorded and bears the pod's marker."""
        process = record.process
        if process is None or not process.alive:
            return None
        with suppress(psutil.Error):
            if marked(POD_MARKER, record.uid)(psutil.Process(process.pid)):
                self._pids.add(process.pid)
                return Child.adopt(process)
        return None

    def sweep(self, record: Record) -> list[int]:
        """Everything that runs as the pod's user, or carries its marker, or descends from such a process."""
        if record.pid is not None:
            self._pids.discard(record.pid)
        tests: list[Belongs] = [marked(POD_MARKER, record.uid)]
        if record.user_id is not None:
            tests.append(owned_by(range(record.user_id, record.user_id + 1)))
        left = sweep(tests)
        self._collect_strays()
        return left

    def agent_user_id(self, own: int | None) -> int | None:
        """The pod's own."""
        return own

    def _collect_strays(self) -> None:
        """Reap orphans that ended; without users of their own, also end those that emptied their environment.

        An agent keeps its orphans itself, so whose agent lives is not here.
        """
        with self._forking:
            for child in psutil.Process().children():
                if child.pid not in self._pids:
                    with suppress(psutil.Error, ChildProcessError):
                        if not self._privileged:
                            child.kill()
                        os.waitpid(child.pid, os.WNOHANG if self._privileged else 0)


class Simulated:
    """One process speaks the wire protocol for all robots: `python -m kuberpa_agent.simulator`.

    It is told by JSON lines on its standard input: {"add": {uid, name, namespace, env, tokenFile}} and
    {"remove": {uid}}. Its end of file means that the runtime is gone.
    """

    def __init__(
        self, command: tuple[str | Path, ...], cluster_id: str, user_id: int | None, folder: Path, log: Path
    ) -> None:
        self._command = command
        self._cluster_id = cluster_id
        self._user_id = user_id
        self._folder = folder
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._child: Child | None = None
        self._ended: asyncio.Task[int] | None = None

    def start(self, launch: Launch) -> Agent:
        """Hand the robot over; starts the simulator when it does not run."""
        child = self._running()
        robot = {
            "uid": launch.pod.uid,
            "name": launch.pod.name,
            "namespace": launch.pod.namespace,
            "env": dict(launch.env),
            "tokenFile": str(launch.token_file or ""),
        }
        self._tell({"add": robot})
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_task(child.wait())
        return SimulatedAgent(
            child.identity, self._ended, lambda: self._tell({"remove": {"uid": launch.pod.uid}}), asyncio.Event()
        )

    def adopt(self, record: Record) -> Agent | None:  # noqa: ARG002 - the simulator ends with the runtime
        """None: nothing outlives the runtime."""
        return None

    def sweep(self, record: Record) -> list[int]:  # noqa: ARG002 - robots have no processes here
        """Nothing: robots have no processes."""
        return []

    def agent_user_id(self, own: int | None) -> int | None:  # noqa: ARG002 - all share one
        """The simulator's."""
        return self._user_id

    def _running(self) -> Child:
        if self._process is not None and self._process.poll() is None and self._child:
            return self._child
        env = {**machine_network(os.environ), "PATH": os.defpath, "LANG": "C.UTF-8", CLUSTER_MARKER: self._cluster_id}
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                [str(part) for part in self._command],
                env={**env, "HOME": str(self._folder)},
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user_id,
                group=self._user_id,
                extra_groups=[] if self._user_id is not None else None,
            )
        self._child = Child(Identity.of(self._process.pid) or Identity(self._process.pid, 0.0), self._process)
        self._ended = None
        return self._child

    def _tell(self, message: Mapping[str, object]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()


@dataclass(frozen=True)
class SimulatedAgent:
    """One robot inside the simulator; it ends when it is removed or the simulator ends."""

    identity: Identity
    _simulator: "asyncio.Task[int]"
    _remove: Callable[[], None]
    _removed: asyncio.Event

    async def wait(self) -> int:
        """0 when removed, else the simulator's exit code."""
        removed = asyncio.create_task(self._removed.wait())
        await asyncio.wait({removed, self._simulator}, return_when=asyncio.FIRST_COMPLETED)
        removed.cancel()
        return 0 if self._removed.is_set() else self._simulator.result()

    def send(self, sig: signal.Signals) -> None:  # noqa: ARG002 - there is one way to end
        """Remove it from the simulator."""
        self.kill_group()

    def kill_group(self) -> None:
        """Remove it from the simulator."""
        self._remove()
        self._removed.set()
