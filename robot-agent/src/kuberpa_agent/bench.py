"""Where people try the robot's code: the interpreter that has its packages, a folder, an environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bench:
    """What a console starts with."""

    python: Path
    folder: Path
    environment: Mapping[str, str]
    """Beside the agent's own, without what is the agent's alone."""
