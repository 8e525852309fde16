"""Dates, times of day and spans of time as manifests spell them."""

import re
from datetime import date, time, timedelta
from typing import Annotated, Final

from pydantic import Field

from kuberpa.model import Model

TIME_PATTERN: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
SPAN_PATTERN: Final = r"^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
TimeOfDay = Annotated[str, Field(min_length=5, max_length=5, pattern=TIME_PATTERN)]
"""`08:00`; `24:00` is the end of the day."""
Span = Annotated[str, Field(min_length=2, max_length=32, pattern=SPAN_PATTERN)]
"""`90s`, `15m`, `1h30m`, `2d`, `1w`."""
MIDNIGHT: Final = "24:00"
_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


class DateRange(Model):
    """Days from one to another, both included."""

    from_: Annotated[date, Field(alias="from", description="First day, for example 2027-07-19.")]
    to: Annotated[date, Field(description="Last day, included.")]

    def __contains__(self, day: date) -> bool:
        return self.from_ <= day <= self.to


class HourRange(Model):
    """Hours of a day: from one time to before another."""

    from_: Annotated[TimeOfDay, Field(alias="from", description="Begin, for example 08:00.")]
    to: Annotated[
        TimeOfDay,
        Field(description="End, not included, for example 20:00; 24:00 is midnight. Before `from`: on the next day."),
    ]

    def __contains__(self, at: time) -> bool:
        text = at.strftime("%H:%M")
        if self.from_ <= self.to:
            return self.from_ <= text < self.to
        return text >= self.from_ or text < self.to


def span_of(text: str) -> timedelta:
    """The length of a Span. Raises OverflowError for one that no calendar holds."""
    return timedelta(seconds=sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9]+)([wdhms])", text)))
