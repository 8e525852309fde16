"""Instants of cron expressions in a time zone.

croniter reads the expressions and enumerates wall-clock times without a zone; `walls` maps those to instants: fixed
hours (`30 2 * * *`) come once a day, wildcard hours (`*/15 * * * *`, `0 */2 * * *`) go by elapsed time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

from kuberpa.planning import walls
from kuberpa.planning.errors import InvalidPlanError

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
_RANDOM_OR_HASHED: Final = re.compile(r"(?i)(^|[,\s])[hr](\(|/|\s|,|$)")


class InvalidCronError(InvalidPlanError):
    """The text is no cron expression. The message says what is wrong and what would be right."""


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
        return (walls.fixed if self.fixed_hours else walls.elapsed)(self._walls, self.zone, instant)

    def _walls(self, start: datetime) -> Iterator[datetime]:
        times = croniter(self.text, start, second_at_beginning=True, max_years_between_matches=MAX_YEARS)
        while True:
            try:
                yield times.get_next(datetime)
            except (CroniterBadDateError, OverflowError):
                return


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
