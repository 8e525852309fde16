import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

LONGEST_SLEEP = 30.0


def now() -> datetime:
    """The present instant in UTC; the only place of this package that reads the wall clock."""
    return datetime.now(UTC)  # noqa: TID251 - this is the clock


async def sleep_until(
    due: float,
    seconds_now: Callable[[], float] = lambda: now().timestamp(),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Sleep until the wall clock shows `due`, in seconds since the epoch.

    In slices: the event loop's clock stands still while a laptop is suspended, and what expires does not wait for it.
    """
    while (left := due - seconds_now()) > 0:
        await sleep(min(left, LONGEST_SLEEP))
