"""The next instants of a plan in words, for people and for tables."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from kuberpa.model import Instant, Model
from kuberpa.planning.plan import Plan, Slot
from kuberpa.reasons import Reason
from kuberpa.schedule import ScheduleSpec
from kuberpa.schedule_status import PLAN_CHARS

RUN: Final = "Run"
SKIPPED: Final = "Skipped"
MAX_COUNT: Final = 1000
"""Firings that may be asked for at a time."""
LISTED_PER_FIRING: Final = 100
"""Instants left out that are listed at most between two firings."""


class Explained(Model):
    """One instant: what would become of it, and why."""

    at: Annotated[Instant, Field(description="In UTC, with jitter.")]
    local: Annotated[str, Field(description="The same in the schedule's zone, with its offset.")]
    outcome: Annotated[str, Field(description="Run or Skipped.")]
    reason: Annotated[str, Field(description="Why, in words.")]


def explain(plan: Plan, since: datetime, count: int) -> Iterator[Explained]:
    """The next `count` firings after an instant or at it, and what is left out between them."""
    fired, left_out = 0, 0
    for slot in plan.at_or_after(since):
        if fired >= min(count, MAX_COUNT):
            return
        fired += slot.fires
        left_out = 0 if slot.fires else left_out + 1
        if left_out <= LISTED_PER_FIRING:
            yield _explained(plan, slot)


def _explained(plan: Plan, slot: Slot) -> Explained:
    return Explained(
        at=slot.at,
        local=slot.at.astimezone(plan.zone).isoformat(),
        outcome=RUN if slot.fires else SKIPPED,
        reason=_words(plan.spec, slot),
    )


def _words(spec: ScheduleSpec, slot: Slot) -> str:
    words = f"{slot.reason}: {slot.why}" if slot.reason is not Reason.SCHEDULED else _source(spec)
    delay = (slot.at - slot.time).total_seconds()
    return f"{words}; {delay:g} s of jitter after {slot.time.isoformat()}" if delay else words


def in_words(spec: ScheduleSpec) -> str:
    """What names the instants, in a few words."""
    rule = next((line for line in spec.rrule.split() if "FREQ=" in line.upper()), "rrule")
    named = [
        *spec.schedules,
        f"every {spec.every.interval}" if spec.every else "",
        f"at {len(spec.at)} instant{'s' if len(spec.at) > 1 else ''}" if spec.at else "",
        rule.upper().removeprefix("RRULE:") if spec.rrule else "",
    ]
    text = ", ".join(name for name in named if name)
    return text if len(text) <= PLAN_CHARS else f"{text[: PLAN_CHARS - 1]}…"


def _source(spec: ScheduleSpec) -> str:
    named = [
        f"every {spec.every.interval}" if spec.every else "",
        "at" if spec.at else "",
        "rrule" if spec.rrule else "",
        *(repr(text) for text in spec.schedules),
    ]
    return "by " + " or ".join(name for name in named if name)
