"""From wall-clock times to instants in a time zone.

- *Fixed* wall-clock times (`30 2 * * *`) come once a day: one that spring skips comes at the first valid instant
  after the gap, one that autumn repeats at its first occurrence.
- Others (`*/15 * * * *`) go by elapsed time: every real instant whose wall-clock time matches, so that skipped times
  do not come and repeated ones come twice.

That is how Vixie cron (cron(8), Debian) treats the two.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kuberpa.planning.errors import InvalidZoneError

TICK: Final = timedelta(microseconds=1)
_STRIDE: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
Walls = Callable[[datetime], Iterator[datetime]]
"""Naive wall-clock times strictly after a naive one, ascending."""


def parse_zone(name: str) -> ZoneInfo:
    """An IANA time zone. Raises InvalidZoneError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidZoneError(
            f"{name!r} is no time zone of the IANA database; right would be Europe/Moscow or Etc/UTC"
        ) from None


def fixed(walls: Walls, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """Instants later than the given one of wall-clock times that come once a day."""
    last = instant
    # where clocks changed just before, an earlier wall-clock time may map to a later instant
    changed = _first_change(instant - _STRIDE, instant, zone) is not None
    for wall in walls(wall_of(instant, zone) - (_STRIDE if changed else timedelta(0))):
        at = instant_of(wall, zone)
        if at > last:
            yield at
            last = at


def elapsed(walls: Walls, zone: ZoneInfo, instant: datetime) -> Iterator[datetime]:
    """Every instant later than the given one whose wall-clock time matches."""
    start = instant + TICK
    while True:  # one stretch of constant offset after the other
        offset = _offset(start, zone)
        for wall in walls(_naive(start) + offset - TICK):
            at = (wall - offset).replace(tzinfo=UTC)
            change = _first_change(start, at, zone)
            if change is not None:
                start = change
                break
            yield at
            start = at
        else:
            return


def wall_of(instant: datetime, zone: ZoneInfo) -> datetime:
    """What clocks on the wall show then, without a zone."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """First occurrence of a wall-clock time; for one in a gap, the gap's end."""
    at = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall_of(at, zone) == wall:
        return at
    change = _change_over(at - _STRIDE, at + _STRIDE, zone, wall)
    return at if change is None else change


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    return offset if offset is not None else timedelta(0)


def _first_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """First instant in (start, end] at which another offset holds."""
    offset = _offset(start, zone)
    low = start
    while low < end:
        high = min(low + _STRIDE, end)
        if _offset(high, zone) != offset:
            return _bisect(low, high, zone)
        low = high
    return None


def _bisect(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The instant in (low, high] at which the offset of high begins; offsets change on whole seconds."""
    after = _offset(high, zone)
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > _SECOND:
        middle = (low + (high - low) // 2).replace(microsecond=0)
        if middle == low:
            break
        if _offset(middle, zone) == after:
            high = middle
        else:
            low = middle
    return high


def _change_over(start: datetime, end: datetime, zone: ZoneInfo, wall: datetime) -> datetime | None:
    """The change between two instants that skips the given wall-clock time."""
    change = _first_change(start, end, zone)
    while change is not None:
        if wall_of(change - TICK, zone) < wall <= wall_of(change, zone):
            return change
        change = _first_change(change, end, zone)
    return None
