"""What one run of the cluster tells other commands, through a file in its state folder."""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from kuberpa_cli.embedded import files
from kuberpa_cli.embedded.part import Condition, State
from kuberpa_cli.embedded.processes import Identity


class RunPhase(StrEnum):
    """Where the cluster as a whole is."""

    STARTING = "Starting"
    READY = "Ready"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"


@dataclass(frozen=True)
class Run:
    """One run: its supervisor's process, its phase, and the condition of each part."""

    pid: int
    created: float
    started_at: str
    phase: RunPhase = RunPhase.STARTING
    message: str = ""
    panel: str = ""
    server: str = ""
    parts: tuple[Condition, ...] = ()

    @property
    def supervisor(self) -> Identity:
        """The process to signal."""
        return Identity(self.pid, self.created)

    @property
    def alive(self) -> bool:
        """Whether that process still runs: the file of a killed one stays behind."""
        return self.supervisor.alive

    def with_part(self, condition: Condition) -> "Run":
        """The run with one part's condition replaced."""
        others = {part.name: part for part in self.parts}
        return replace(self, parts=tuple((others | {condition.name: condition}).values()))

    def save(self, path: Path) -> None:
        """Write the file, in one step."""
        files.write(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Run | None":
        """The last run; None when there was none."""
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        parts = tuple(Condition(**{**part, "state": State(part["state"])}) for part in content.pop("parts"))
        return cls(**{**content, "phase": RunPhase(content["phase"])}, parts=parts)
