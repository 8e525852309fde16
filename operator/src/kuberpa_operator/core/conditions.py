from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kuberpa.meta import Condition, ConditionStatus
from kuberpa.reasons import Reason

MESSAGE_CHARS: Final = 4096
"""Longest message of a condition or status."""


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of a type."""
    return next((condition for condition in conditions if condition.type == kind), None)


def renew(  # noqa: PLR0913, PLR0917  the fields of metav1.Condition
    former: Condition | None,
    kind: str,
    status: ConditionStatus,
    reason: Reason,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    """A condition as of now, whose transition time moves only with its status."""
    changed = former is None or former.status != status.value
    return Condition(
        type=kind,
        status=status.value,
        observed_generation=generation,
        last_transition_time=now if changed or former is None else former.last_transition_time,
        reason=reason,
        message=message[:MESSAGE_CHARS],
    )
