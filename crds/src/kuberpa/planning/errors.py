class PlanError(ValueError):
    """A plan that cannot be read. The message names the field, what is wrong and what would be right."""


class InvalidPlanError(PlanError):
    """An expression, a date or a combination of fields is wrong."""


class InvalidZoneError(PlanError):
    """The text names no IANA time zone."""


class InvalidCalendarError(PlanError):
    """A Calendar contradicts itself, extends itself, or names what is not known."""


class CalendarNotFoundError(PlanError):
    """There is no Calendar of that name."""
