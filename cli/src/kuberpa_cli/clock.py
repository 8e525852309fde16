from datetime import UTC, datetime


def now() -> datetime:
    """The present instant in UTC; the only place of this package that reads the wall clock."""
    return datetime.now(UTC)  # noqa: TID251 - this is the clock
