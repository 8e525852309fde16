from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kuberpa.dates import DateRange, HourRange
from kuberpa.meta import Condition, ObjectMeta
from kuberpa.model import Instant, Model, keyed_by


class Weekday(StrEnum):
    """Days of the week, Monday first."""

    MONDAY = "Monday"
    TUESDAY = "Tuesday"
    WEDNESDAY = "Wednesday"
    THURSDAY = "Thursday"
    FRIDAY = "Friday"
    SATURDAY = "Saturday"
    SUNDAY = "Sunday"


class Holidays(Model):
    """Days off: those of a country, single dates, and ranges."""

    country: Annotated[
        str,
        Field(
            max_length=3,
            pattern=r"^([A-Z]{2,3})?$",
            description="Country whose public holidays are days off, by its ISO 3166 code, for example RU or DE. Days "
            "that a government moves are included as far as the holidays package knows them: the day off, and the "
            "Saturday that is worked instead.",
        ),
    ] = ""
    subdivision: Annotated[
        str,
        Field(
            max_length=16,
            pattern=r"^[A-Za-z0-9]*$",
            description="Part of the country with holidays of its own, for example BY for Bavaria.",
        ),
    ] = ""
    dates: Annotated[
        tuple[date, ...], Field(max_length=1024, description="Single days off, for example 2027-12-24.")
    ] = ()
    ranges: Annotated[tuple[DateRange, ...], Field(max_length=128, description="Days off in a row.")] = ()


class CalendarSpec(Model):
    """Which days are worked, and when."""

    working_days: Annotated[
        tuple[Weekday, ...] | None,
        Field(
            max_length=7,
            description="Weekdays that are worked. Without it those of the Calendar extended; else all but the weekend "
            "of holidays.country; else Monday to Friday.",
        ),
    ] = None
    holidays: Annotated[Holidays, Field(description="Days off although their weekday is worked.")] = Holidays()
    extra_working_days: Annotated[
        tuple[date, ...],
        Field(max_length=1024, description="Days worked although they are holidays or their weekday is not worked."),
    ] = ()
    working_hours: Annotated[
        tuple[HourRange, ...],
        Field(
            max_length=8,
            description="Hours of a working day that are worked, for example [{from: '09:00', to: '18:00'}]. Without "
            "them those of the Calendar extended, else the whole day.",
        ),
    ] = ()
    extends: Annotated[
        str,
        Field(
            max_length=253,
            pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
            description="Name of another Calendar of this namespace to start from: what this one says about a day "
            "comes before what that one says. Must not lead back here.",
        ),
    ] = ""
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="IANA zone of status.today and status.nextChange. A Schedule asks about days in its own zone.",
        ),
    ] = "Etc/UTC"


class CalendarCondition(StrEnum):
    """Condition types of a Calendar."""

    READY = "Ready"


class CalendarState(StrEnum):
    """What a Calendar says about now."""

    WORKING = "Working"
    OFF_HOURS = "OffHours"
    DAY_OFF = "DayOff"


class CalendarStatus(Model):
    """What the calendar says about now."""

    observed_generation: Annotated[int, Field(ge=0, description="Generation of the spec acted upon.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8,
            json_schema_extra=keyed_by("type"),
            description="Ready: whether Schedules can go by the calendar, and if not, what is wrong with which field.",
        ),
    ] = ()
    today: Annotated[date | None, Field(description="The day in spec.timeZone that the rest is about.")] = None
    state: Annotated[
        CalendarState | None,
        Field(description="Working now, OffHours of a working day, or DayOff."),
    ] = None
    why: Annotated[str, Field(max_length=512, description="Why today is worked or not, in words.")] = ""
    next_change: Annotated[Instant | None, Field(description="When state changes next.")] = None


class Calendar(Model):
    """Working days and days off, for Schedules to keep to.

    A day is judged by the first of these that says something about it: extraWorkingDays, holidays (dates and ranges
    first, then the country's), the same of the Calendar extended, and workingDays. For example:

        apiVersion: kuberpa.dev/v1alpha1
        kind: Calendar
        metadata: {name: moscow-office}
        spec:
          workingDays: [Monday, Tuesday, Wednesday, Thursday, Friday]
          holidays: {country: RU, ranges: [{from: 2027-08-02, to: 2027-08-08}]}
          workingHours: [{from: "09:00", to: "18:00"}]
          timeZone: Europe/Moscow
    """

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[CalendarSpec, Field(description="Which days are worked, and when.")]
    status: Annotated[
        CalendarStatus, Field(description="What the calendar says about now. Written by kuberpa alone.")
    ] = CalendarStatus()
