"""Waiting on conditions with a deadline, for code outside an event loop."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


def pause(seconds: float) -> None:
    """Let some time pass between two looks at a condition."""
    threading.Event().wait(seconds)


def until(look: Callable[[], T | None], *, seconds: float, every: float = 0.05) -> T | None:
    """What `look` returns once it is true; None when that did not happen in time."""
    deadline = monotonic() + seconds
    while not (seen := look()):
        if monotonic() > deadline:
            return None
        pause(every)
    return seen
