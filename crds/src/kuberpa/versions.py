"""Which agents work with which operator and panel.

Operator and panel are of one release; agents may be of that release or of the one before, so that they can be upgraded
after it, one by one. Patch releases (the third number) work with each other. Whatever speaks the same protocol
(kuberpa.wire.PROTOCOL) is let in all the same, and what is beyond the rule is told: nobody has tried it.
"""

import re
from enum import StrEnum
from typing import Final

_NUMBERS: Final = re.compile(r"(\d{1,6})\.(\d{1,6})(?:[.\-+a-z]|$)")


class Skew(StrEnum):
    """How an agent's version stands to the release of operator and panel."""

    SAME = "Same"
    ONE_OLDER = "OneOlder"
    """The release before: works with it, and is to be upgraded."""
    TOO_OLD = "TooOld"
    NEWER = "Newer"
    """Agents are upgraded last."""
    UNREADABLE = "Unreadable"


def skew(agent: str, release: str) -> Skew:
    """How an agent's version stands to a release."""
    theirs, ours = _release(agent), _release(release)
    if theirs is None or ours is None:
        return Skew.UNREADABLE
    if theirs == ours:
        return Skew.SAME
    if theirs > ours:
        return Skew.NEWER
    return Skew.ONE_OLDER if theirs == (ours[0], ours[1] - 1) else Skew.TOO_OLD


def _release(version: str) -> tuple[int, int] | None:
    found = _NUMBERS.match(version)
    return (int(found[1]), int(found[2])) if found else None
