from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from kuberpa.dates import HourRange, Span
from kuberpa.model import Instant, Model, Name


class Every(Model):
    """Instants a fixed time apart."""

    interval: Annotated[
        Span,
        Field(description="Time from one firing to the next, for example 90s, 15m, 1h30m, 2d or 1w; at least 1s."),
    ]
    anchor: Annotated[
        Instant | None,
        Field(
            description="One of the instants: the others are whole intervals before and after it. Without it "
            "1970-01-01T00:00:00Z, so that 15m means the quarters of the hour."
        ),
    ] = None


class Calendars(Model):
    """The days on which a plan may fire, by Calendars of this namespace."""

    include: Annotated[
        tuple[Name, ...],
        Field(max_length=16, description="Fire only on days that at least one of these Calendars works."),
    ] = ()
    exclude: Annotated[
        tuple[Name, ...],
        Field(max_length=16, description="Never fire on days that any of these Calendars has off."),
    ] = ()
    on_excluded: Annotated[
        Literal["Skip", "NextWorkingDay", "PreviousWorkingDay"],
        Field(
            description="What becomes of an instant on any other day: Skip leaves it out; NextWorkingDay and "
            "PreviousWorkingDay move it to the same time of the nearest day on which it may fire."
        ),
    ] = "Skip"
    hours: Annotated[
        Literal["Ignore", "Respect"],
        Field(
            description="Whether the Calendars' workingHours count too: with Respect an instant outside them is left "
            "out."
        ),
    ] = "Ignore"

    @property
    def names(self) -> tuple[str, ...]:
        """All Calendars named."""
        return (*self.include, *self.exclude)


class Window(Model):
    """When a plan holds at all; outside of it nothing is planned."""

    start_date: Annotated[date | None, Field(description="First day in timeZone, for example 2027-01-01.")] = None
    end_date: Annotated[date | None, Field(description="Last day in timeZone, included.")] = None
    daily: Annotated[
        HourRange | None,
        Field(description="Hours of each day in timeZone, for example {from: '08:00', to: '20:00'}."),
    ] = None
