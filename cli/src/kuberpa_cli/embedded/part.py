import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kuberpa_cli.embedded.child import User

Probe = Callable[[], Awaitable[str | None]]
"""None when ready, else why not yet."""


async def no_probe() -> str | None:
    """Ready as soon as the process runs."""
    return None


async def nothing() -> None:
    """No preparation."""


@dataclass(frozen=True)
class Part:
    """One long-running process of the cluster, as a value: the supervisor does the rest."""

    name: str
    command: tuple[str | Path, ...]
    cwd: Path
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    prepare: Callable[[], Awaitable[None]] = nothing
    probe: Probe = no_probe
    ready_seconds: float = 180
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15


@dataclass(frozen=True)
class Step:
    """Something done once while the cluster comes up, between parts."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[], Awaitable[None]]


Unit = Part | Step


class State(StrEnum):
    """Where a unit is in its life."""

    WAITING = "Waiting"
    STARTING = "Starting"
    READY = "Ready"
    RESTARTING = "Restarting"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"


@dataclass(frozen=True)
class Condition:
    """What is known of one unit now."""

    name: str
    state: State
    message: str = ""
    pid: int | None = None
    restarts: int = 0
