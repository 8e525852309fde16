from collections.abc import Callable
from typing import TypeVar

from kuberpa_cli import waiting

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, seconds: float = 30) -> T:
    """What `look` returns once it is true; AssertionError naming `what` when that takes too long."""
    seen = waiting.until(look, seconds=seconds)
    if seen is None:
        raise AssertionError(f"not within {seconds:g} s: {what}")
    return seen
