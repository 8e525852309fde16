"""Instants of cron expressions in a time zone, both ways in time.

croniter reads the expressions and enumerates wall-clock times without a zone; this file maps those to instants:

- An expression with *fixed* hours (`30 2 * * *`) means a wall-clock time, which comes once a day: one that spring
  skips fires at the first valid instant after the gap, one that autumn repeats fires at its first occurrence.
- An expression with *wildcard* hours (`*/15 * * * *`, `0 */2 * * *`) goes by elapsed time: it fires at every real
  instant whose wall-clock time matches, so skipped times do not fire and repeated ones fire twice.

That is how Vixie cron (cron(8), Debian) treats the two.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS: Final = (
    "minute (0-59)",
    "hour (0-23)",
    "day of month (1-31)",
    "month (1-12)",
    "day of week (0-7, 0 and 7: Sunday)",
)
SECOND: Final = "second (0-59)"
MAX_YEARS: Final = 12
"""Longest wait for a match: 29 February comes after eight years where a century has no leap day."""
TICK: Final = timedelta(microseconds=1)
_STRIDE: Final = timedelta(days=1)
_RANDOM_OR_HASHED: Final = re.compile(r"(?i)(^|[,\s])[hr](\(|/|\s|,|$)")


class InvalidCronError(ValueError):
    """The text is no cron expression. The message says what is wrong and what would be right."""


class InvalidZoneError(ValueError):
    """The text names no IANA time zone."""


def parse_zone(name: str) -> ZoneInfo:
    """An IANA time zone. Raises InvalidZoneError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidZoneError(
            f"{name!r} is no time zone of the IANA database; right would be Europe/Moscow or Etc/UTC"
        ) from None


@dataclass(frozen=True, slots=True)
class Cron:
    """One expression."""

    text: str
    zone: ZoneInfo
    fixed_hours: bool

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> "Cron":
        """Five fields, six with seconds first, or an alias. Raises InvalidCronError."""
        expression = ALIASES.get(text.strip().lower(), text.strip())
        fields = expression.split()
        if len(fields) not in {5, 6}:
            raise InvalidCronError(_field_count(text, len(fields)))
        if _RANDOM_OR_HASHED.search(expression):
            raise InvalidCronError(f"{text!r}: random (R) and hashed (H) fields are not supported; name the times")
        try:
            expanded, _ = croniter.expand(" ".join(fields), second_at_beginning=True)
        except (CroniterError, ValueError, KeyError, TypeError) as error:
            raise InvalidCronError(_wrong_field(text, fields) or f"{text!r}: {error}") from None
        hour = fields[-4]
        every_hour = expanded[1] == ["*"] or set(expanded[1]) == set(range(24))
        return cls(" ".join(fields), zone, fixed_hours=not (hour.startswith("*") or every_hour))

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Instants later than the given one, ascending, in UTC. Ends where none follows within MAX_YEARS."""
        return self._fixed_after(instant) if self.fixed_hours else self._elapsed_after(instant)

    def before(self, instant: datetime) -> Iterator[datetime]:
        """Instants earlier than the given one, descending, in UTC."""
        return self._fixed_before(instant) if self.fixed_hours else self._elapsed_before(instant)

    # Fixed hours: wall-clock times, each mapped to one instant

    def _fixed_after(self, instant: datetime) -> Iterator[datetime]:
        # start before any gap that might map an earlier wall-clock time to a later instant
        last = instant
        for wall in self._walls(_wall(instant, self.zone) - _STRIDE, forward=True):
            at = self._instant_of(wall)
            if at > last:
                yield at
                last = at

    def _fixed_before(self, instant: datetime) -> Iterator[datetime]:
        last = instant
        for wall in self._walls(_wall(instant, self.zone) + _STRIDE, forward=False):
            at = self._instant_of(wall)
            if at < last:
                yield at
                last = at

    def _instant_of(self, wall: datetime) -> datetime:
        """First occurrence of a wall-clock time; for one in a gap, the gap's end."""
        at = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if _wall(at, self.zone) == wall:
            return at
        change = _next_change(at - _STRIDE, at + _STRIDE, self.zone, wall)
        return at if change is None else change

    # Wildcard hours: every instant whose wall-clock time matches, one stretch of constant offset after the other

    def _elapsed_after(self, instant: datetime) -> Iterator[datetime]:
        start = instant + TICK
        while True:
            offset = _offset(start, self.zone)
            for wall in self._walls(_naive(start) + offset - TICK, forward=True):
                at = (wall - offset).replace(tzinfo=UTC)
                change = _first_change(start, at, self.zone)
                if change is not None:
                    start = change
                    break
                yield at
                start = at
            else:
                return

    def _elapsed_before(self, instant: datetime) -> Iterator[datetime]:
        end = instant - TICK
        while True:
            offset = _offset(end, self.zone)
            for wall in self._walls(_naive(end) + offset + TICK, forward=False):
                at = (wall - offset).replace(tzinfo=UTC)
                change = _last_change(at, end, self.zone)
                if change is not None:
                    end = change - TICK
                    break
                yield at
                end = at
            else:
                return

    def _walls(self, start: datetime, *, forward: bool) -> Iterator[datetime]:
        """Matching wall-clock times strictly after (before) a naive one."""
        times = croniter(self.text, start, second_at_beginning=True, max_years_between_matches=MAX_YEARS)
        step = times.get_next if forward else times.get_prev
        while True:
            try:
                yield step(datetime)
            except (CroniterBadDateError, OverflowError):
                return


def union(series: Iterable[Iterator[datetime]], *, descending: bool = False) -> Iterator[datetime]:
    """Several ordered series as one, in which an instant of several of them comes once."""
    last = None
    for at in merge(*series, reverse=descending):
        if at != last:
            yield at
        last = at


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


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


def _last_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """Last instant in (start, end] at which another offset begins to hold."""
    offset = _offset(end, zone)
    high = end
    while high > start:
        low = max(high - _STRIDE, start)
        if _offset(low, zone) != offset:
            return _bisect(low, high, zone)
        high = low
    return None


def _bisect(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The instant in (low, high] at which the offset of high begins; offsets change on whole seconds."""
    after = _offset(high, zone)
    second = timedelta(seconds=1)
    low_s, high_s = low.replace(microsecond=0), high.replace(microsecond=0)
    while high_s - low_s > second:
        middle = low_s + (high_s - low_s) // 2
        middle = middle.replace(microsecond=0)
        if middle == low_s:
            break
        if _offset(middle, zone) == after:
            high_s = middle
        else:
            low_s = middle
    return high_s


def _next_change(start: datetime, end: datetime, zone: ZoneInfo, wall: datetime) -> datetime | None:
    """The change between two instants that skips the given wall-clock time."""
    change = _first_change(start, end, zone)
    while change is not None:
        if _wall(change - TICK, zone) < wall <= _wall(change, zone):
            return change
        change = _first_change(change, end, zone)
    return None


def _field_count(text: str, count: int) -> str:
    if text.strip().startswith("@"):
        return f"{text!r} is no known alias; right would be one of {', '.join(ALIASES)}"
    return (
        f"{text!r} has {count} field{'s' if count != 1 else ''}; right would be five (minute hour day month weekday, "
        "for example '0 9 * * 1-5'), or six with seconds first"
    )


def _wrong_field(text: str, fields: list[str]) -> str | None:
    """Which single field croniter does not take, tried with `*` in place of all others."""
    labels = (SECOND, *FIELDS) if len(fields) == 6 else FIELDS  # noqa: PLR2004  six fields: with seconds
    for index, (value, label) in enumerate(zip(fields, labels, strict=True)):
        probe = ["*"] * len(fields)
        probe[index] = value
        try:
            croniter.expand(" ".join(probe), second_at_beginning=True)
        except (CroniterError, ValueError, KeyError, TypeError):
            return f"{text!r}: {value!r} is not valid for {label}"
    return None
