"""Words of the shared kernel that people read: states, reasons, conditions. kubectl has them in CamelCase."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from kuberpa.activity import ActivityPhase
from kuberpa.calendar import CalendarCondition, CalendarState, Weekday
from kuberpa.fleet import FleetCondition
from kuberpa.host import HostCondition
from kuberpa.itemstate import ErrorClass, ItemState
from kuberpa.reasons import Reason
from kuberpa.robot import RobotCondition, RobotPhase
from kuberpa.schedule_status import Cause, Outcome, ScheduleCondition
from kuberpa.session import SessionState
from kuberpa.workqueue import Hold, WorkQueueCondition
from kuberpa_panel.language.choice import DEFAULT, current
from kuberpa_panel.language.words import pgettext, pmarked

WORDS: Final[dict[str, tuple[type[StrEnum], ...]]] = {
    "robot": (RobotPhase,),
    "activity": (ActivityPhase,),
    "item": (ItemState,),
    "firing": (Outcome,),
    "calendar": (CalendarState,),
    "reason": (Reason,),
    "condition": (
        RobotCondition,
        FleetCondition,
        HostCondition,
        ScheduleCondition,
        WorkQueueCondition,
        CalendarCondition,
    ),
    "session": (SessionState,),
    "weekday": (Weekday,),
    "cause": (Cause,),
    "error": (ErrorClass,),
    "hold": (Hold,),
}
"""By what a word is said of: languages with genders have one for a stopped robot and one for a stopped activity."""
EXTRA: Final = (pmarked("firing", "Run"), pmarked("condition", "Unknown"))
_KINDS: Final[dict[type, str]] = {kind: of for of, kinds in WORDS.items() for kind in kinds}
_VALUES: Final = {of: frozenset(map(str, (each for kind in kinds for each in kind))) for of, kinds in WORDS.items()}


def words() -> Iterator[tuple[str, str]]:
    """Every word with what it is said of."""
    for of, values in _VALUES.items():
        for value in sorted(values):
            yield of, value


def name_of(word: str, of: str = "") -> str:
    """A word in the reader's language. `of` decides where a word is said of several kinds of things."""
    if current() == DEFAULT:
        return str(word)
    for kind in (of, _KINDS.get(type(word), ""), *_VALUES):
        if word in _VALUES.get(kind, ()):
            return pgettext(kind, str(word))
    for context, message in EXTRA:
        if word == message:
            return pgettext(context, message)
    return str(word)
