"""Recurrence rules (RFC 5545) in a time zone, by python-dateutil.

dateutil enumerates wall-clock times without a zone, from DTSTART on; this file bounds that. Rules without COUNT are
begun shortly before the instant asked about. A rule that never matches would be tried by dateutil up to the year 9999:
so it is read in the last 400 years before that, which have the same dates on the same weekdays as any other 400.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice, takewhile
from math import prod
from typing import Any, Final
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from kuberpa.planning import walls
from kuberpa.planning.errors import InvalidPlanError
from kuberpa.planning.series import union

MAX_COUNT: Final = 10_000
DEFAULT_START: Final = datetime(1970, 1, 1)  # noqa: DTZ001  a wall-clock time
_CYCLE_YEARS: Final = 400
_CYCLE: Final = timedelta(days=146_097)
_LAST_YEAR: Final = 9999
_SUB_DAILY: Final = frozenset({"HOURLY", "MINUTELY", "SECONDLY"})
_STEP: Final = {
    "DAILY": timedelta(days=1),
    "HOURLY": timedelta(hours=1),
    "MINUTELY": timedelta(minutes=1),
    "SECONDLY": timedelta(seconds=1),
}
"""Frequencies whose rules are begun late: as many whole intervals after DTSTART as fit."""
_DATE_PARTS: Final = ("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYDAY")
_RIGHT: Final = "right would be DTSTART:20270101T090000 and RRULE:FREQ=MONTHLY;BYDAY=-1FR, one a line"
_LINE: Final = re.compile(r"^(DTSTART|RRULE|RDATE|EXDATE)(;[^:]*)?:(.+)$")
_TIME: Final = re.compile(r"^(\d{8})(?:T(\d{6}))?(Z?)$")


class InvalidRuleError(InvalidPlanError):
    """The text is no recurrence rule. The message says what is wrong and what would be right."""


@dataclass(frozen=True)
class Rule:
    """One RRULE with its start."""

    parts: tuple[tuple[str, str], ...]
    start: datetime
    until: datetime | None
    zone: ZoneInfo

    @property
    def frequency(self) -> str:
        """FREQ."""
        return dict(self.parts)["FREQ"]

    @property
    def interval(self) -> int:
        """INTERVAL."""
        return int(dict(self.parts).get("INTERVAL", "1"))

    @cached_property
    def counted(self) -> tuple[datetime, ...] | None:
        """All wall-clock times of a rule with COUNT; None for others."""
        parts = dict(self.parts)
        if "COUNT" not in parts:
            return None
        shift = _shift(self.start)
        return tuple(at - shift for at in self._build(self.start + shift, shift))

    @cached_property
    def is_possible(self) -> bool:
        """Whether any day matches; asked of what dateutil would look for day by day."""
        parts = dict(self.parts)
        chosen = [f"{key}={parts[key]}" for key in _DATE_PARTS if key in parts]
        if self.frequency not in _STEP or not chosen:
            return True
        start = self.start + _shift(self.start)
        yearly = rrulestr(f"RRULE:FREQ=YEARLY;COUNT=1;{';'.join(chosen)}", dtstart=start)
        return any(True for _ in yearly)

    @property
    def by_clock(self) -> bool:
        """Whether it goes by elapsed time: skipped times do not count, repeated ones count twice."""
        return self.frequency in _SUB_DAILY and "BYHOUR" not in dict(self.parts)

    @cached_property
    def elapsed(self) -> tuple[datetime, ...] | None:
        """All instants of a rule with COUNT that goes by elapsed time; None for others."""
        parts = dict(self.parts)
        if not self.by_clock or "COUNT" not in parts:
            return None
        endless = replace(self, parts=tuple((key, value) for key, value in self.parts if key != "COUNT"))
        first = walls.instant_of(self.start, self.zone) - walls.TICK
        return tuple(islice(endless.after(first), int(parts["COUNT"])))

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Instants later than the given one."""
        if self.elapsed is not None:
            return (at for at in self.elapsed if at > instant)
        return (walls.elapsed if self.by_clock else walls.fixed)(self._walls, self.zone, instant)

    def _walls(self, start: datetime) -> Iterator[datetime]:
        if self.counted is not None:
            return (at for at in self.counted if at > start)
        if not self.is_possible:
            return iter(())
        # dateutil is asked about the last 400 years, whatever the year
        shift = _shift(max(start, self.start))
        begin = self._begin(start) + shift
        walls_ = (at - shift for at in self._build(begin, shift))
        return (at for at in walls_ if at > start)

    def _begin(self, start: datetime) -> datetime:
        """A start with the same phase, not long before the given time."""
        step = _STEP.get(self.frequency)
        if step is None or start <= self.start:
            return self.start
        period = step * self.interval
        return self.start + max((start - self.start) // period - 1, 0) * period

    def _build(self, start: datetime, shift: timedelta) -> Iterator[datetime]:
        text = ";".join(f"{key}={value}" for key, value in self.parts if key != "UNTIL")
        rule: Any = rrulestr(f"RRULE:{text}", dtstart=start)
        last = None if self.until is None else self.until + shift
        return iter(rule) if last is None else takewhile(lambda at: at <= last, iter(rule))


@dataclass(frozen=True)
class Recurrence:
    """Rules and single dates, less other dates."""

    rules: tuple[Rule, ...]
    dates: tuple[datetime, ...] = ()
    excluded: frozenset[datetime] = frozenset()

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> "Recurrence":
        """Lines of DTSTART, RRULE, RDATE and EXDATE; a line without a name is an RRULE. Raises InvalidRuleError."""
        lines: dict[str, list[str]] = {"DTSTART": [], "RRULE": [], "RDATE": [], "EXDATE": []}
        for raw in re.split(r"\s+", text.strip()):
            name, value = _line(raw, zone)
            lines[name].append(value)
        if len(lines["DTSTART"]) > 1:
            raise InvalidRuleError("DTSTART is there twice; name it once")
        if not lines["RRULE"] and not lines["RDATE"]:
            raise InvalidRuleError(f"{text!r}: there is no RRULE and no RDATE; {_RIGHT}")
        start = _wall(lines["DTSTART"][0], "DTSTART", zone) if lines["DTSTART"] else DEFAULT_START
        _check_dates(lines["EXDATE"], start)
        return cls(
            tuple(_rule(value, start, zone) for value in lines["RRULE"]),
            tuple(walls.instant_of(at, zone) for at in _all(lines["RDATE"], "RDATE", zone)),
            frozenset(walls.instant_of(at, zone) for at in _all(lines["EXDATE"], "EXDATE", zone)),
        )

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Instants later than the given one."""
        single = iter(sorted(at for at in self.dates if at > instant))
        return (at for at in union([*(rule.after(instant) for rule in self.rules), single]) if at not in self.excluded)


def _line(raw: str, zone: ZoneInfo) -> tuple[str, str]:
    line = raw.upper() if "=" in raw or ":" in raw else raw
    if line.startswith("FREQ="):
        return "RRULE", line
    match = _LINE.match(line)
    if match is None:
        raise InvalidRuleError(f"{raw[:64]!r} is no line of DTSTART, RRULE, RDATE or EXDATE; {_RIGHT}")
    name, parameters, value = match.groups()
    named = re.search(r"TZID=([^;:]+)", raw, re.IGNORECASE)
    if parameters and named is not None and named.group(1) != zone.key:
        raise InvalidRuleError(f"{name}: TZID={named.group(1)} is not spec.timeZone {zone.key}; leave TZID out")
    return name, value


def _rule(value: str, start: datetime, zone: ZoneInfo) -> Rule:
    parts: dict[str, str] = {}
    for part in value.strip(";").split(";"):
        key, equals, content = part.partition("=")
        if not equals or not content or key in parts:
            raise InvalidRuleError(f"{part[:64]!r} is no part of a rule, or there twice; {_RIGHT}")
        parts[key] = content
    if "BYEASTER" in parts:
        raise InvalidRuleError("BYEASTER is not part of RFC 5545; put a Calendar into spec.calendars instead")
    if "COUNT" in parts and not (parts["COUNT"].isdecimal() and 1 <= int(parts["COUNT"]) <= MAX_COUNT):
        raise InvalidRuleError(f"COUNT={parts['COUNT'][:16]} is not a number from 1 to {MAX_COUNT}; set UNTIL instead")
    if not re.fullmatch(r"[1-9]\d{0,5}", parts.get("INTERVAL", "1")):
        raise InvalidRuleError(f"INTERVAL={parts['INTERVAL'][:16]} is not a number from 1 to 999999")
    until = _until(parts["UNTIL"], zone) if "UNTIL" in parts else None
    rule = Rule(tuple(parts.items()), start, until, zone)
    try:
        kept = ";".join(f"{key}={value}" for key, value in parts.items() if key != "UNTIL")
        rrulestr(f"RRULE:{kept}", dtstart=start)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidRuleError(f"RRULE:{value[:128]}: {error}; {_RIGHT}") from None
    _check_positions(parts)
    if "FREQ" not in parts:
        raise InvalidRuleError(f"RRULE:{value[:128]}: there is no FREQ; {_RIGHT}")
    return rule


def _check_dates(excluded: list[str], start: datetime) -> None:
    """A date without a time is midnight, and takes nothing out of a rule of other times."""
    for value in (value for line in excluded for value in line.split(",")):
        if "T" not in value and start.time() != DEFAULT_START.time():
            raise InvalidRuleError(f"EXDATE:{value[:32]} has no time; right would be EXDATE:{value[:8]}T{start:%H%M%S}")


def _check_positions(parts: dict[str, str]) -> None:
    """BYSETPOS picks from the times of one period; below a day their number is known, and dateutil would look on."""
    if "BYSETPOS" not in parts or parts.get("FREQ") not in _SUB_DAILY:
        return
    lists = {"HOURLY": ("BYMINUTE", "BYSECOND"), "MINUTELY": ("BYSECOND",), "SECONDLY": ()}[parts["FREQ"]]
    count = prod(len(set(parts[name].split(","))) for name in lists if name in parts)
    if all(abs(int(position)) > count for position in parts["BYSETPOS"].split(",")):
        raise InvalidRuleError(
            f"BYSETPOS={parts['BYSETPOS'][:32]}: {parts['FREQ']} names {count} time{'s' if count > 1 else ''} at once; "
            f"right would be a position from 1 to {count}, or from -{count} to -1"
        )


def _all(lines: list[str], name: str, zone: ZoneInfo) -> list[datetime]:
    return [_wall(value, name, zone) for line in lines for value in line.split(",")]


def _until(value: str, zone: ZoneInfo) -> datetime:
    at = _wall(value, "UNTIL", zone)
    # a date alone includes that day
    return at if "T" in value else at + timedelta(days=1) - walls.TICK


def _wall(value: str, name: str, zone: ZoneInfo) -> datetime:
    """A time in the zone; what ends in Z is in UTC."""
    match = _TIME.match(value)
    try:
        digits = (match.group(1) + (match.group(2) or "000000")) if match else ""
        at = datetime.strptime(digits, "%Y%m%d%H%M%S")  # noqa: DTZ007  a wall-clock time
    except ValueError:
        raise InvalidRuleError(f"{name}:{value[:32]} is no time; right would be 20270101T090000") from None
    return walls.wall_of(at.replace(tzinfo=UTC), zone) if value.endswith("Z") else at


def _shift(at: datetime) -> timedelta:
    """Whole cycles of 400 years from here into the last one."""
    return _CYCLE * ((_LAST_YEAR - at.year) // _CYCLE_YEARS)
