"""Where a work item can be, and what moves it: the one table of transitions."""

from enum import StrEnum
from typing import Final


class ItemState(StrEnum):
    """Where an item is. New, Deferred, Retried and Abandoned wait, the last five have ended."""

    NEW = "New"
    DEFERRED = "Deferred"
    RETRIED = "Retried"
    """It failed and waits for another attempt."""
    ABANDONED = "Abandoned"
    """Its lease expired, and it waits for another robot."""
    LEASED = "Leased"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DEAD_LETTERED = "DeadLettered"
    DELETED = "Deleted"


class ItemEvent(StrEnum):
    """What happens to an item."""

    TAKE = "take"
    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    DEAD_LETTER = "dead-letter"
    DEFER = "defer"
    RELEASE = "release"
    EXPIRE = "expire"
    DUE = "due"
    REQUEUE = "requeue"
    DELETE = "delete"


class ErrorClass(StrEnum):
    """What kind of failure it was; another attempt may cure an Application error, never a Business error."""

    APPLICATION = "Application"
    BUSINESS = "Business"


_S = ItemState
_E = ItemEvent

ITEM_TRANSITIONS: Final[dict[ItemState, dict[ItemEvent, ItemState]]] = {
    _S.NEW: {_E.TAKE: _S.LEASED, _E.DEAD_LETTER: _S.DEAD_LETTERED, _E.DELETE: _S.DELETED},
    _S.DEFERRED: {_E.DUE: _S.NEW, _E.DELETE: _S.DELETED},
    _S.RETRIED: {_E.TAKE: _S.LEASED, _E.DELETE: _S.DELETED},
    _S.ABANDONED: {_E.TAKE: _S.LEASED, _E.DELETE: _S.DELETED},
    _S.LEASED: {
        _E.COMPLETE: _S.SUCCEEDED,
        _E.FAIL: _S.FAILED,
        _E.RETRY: _S.RETRIED,
        _E.DEAD_LETTER: _S.DEAD_LETTERED,
        _E.DEFER: _S.DEFERRED,
        _E.RELEASE: _S.NEW,
        _E.EXPIRE: _S.ABANDONED,
        _E.DELETE: _S.DELETED,
    },
    _S.SUCCEEDED: {_E.REQUEUE: _S.NEW, _E.DELETE: _S.DELETED},
    _S.FAILED: {_E.REQUEUE: _S.NEW, _E.DELETE: _S.DELETED},
    _S.DEAD_LETTERED: {_E.REQUEUE: _S.NEW, _E.DELETE: _S.DELETED},
    _S.DELETED: {},
}
"""The one table: Deleted alone has no way out, and only a Leased item can succeed or fail."""

WAITING_STATES: Final = frozenset({_S.NEW, _S.DEFERRED, _S.RETRIED, _S.ABANDONED})
ENDED_STATES: Final = frozenset({_S.SUCCEEDED, _S.FAILED, _S.DEAD_LETTERED, _S.DELETED})


class ItemTransitionError(Exception):
    """The item's state does not allow this event."""


def advance_item(state: ItemState, event: ItemEvent) -> ItemState:
    """State after the event. Raises ItemTransitionError, and nothing has changed."""
    try:
        return ITEM_TRANSITIONS[state][event]
    except KeyError:
        raise ItemTransitionError(f"an item that is {state} does not allow '{event}'") from None
