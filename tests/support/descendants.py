"""What a process has started, told so that one that ends meanwhile is no error."""

from collections.abc import Iterator
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Seen:
    """A process as it was when it was looked at."""

    process: psutil.Process
    name: str
    command: list[str]
    environment: dict[str, str]


def descendants(of: int | None = None) -> Iterator[Seen]:
    """All processes below one, or below this one."""
    for process in psutil.Process(of).children(recursive=True):
        try:
            yield Seen(process, process.name(), process.cmdline(), process.environ())
        except psutil.NoSuchProcess:
            continue
