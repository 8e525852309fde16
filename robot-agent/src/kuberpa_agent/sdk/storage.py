"""What a robot keeps from one activity to the next: one JSON document, in the panel's database.

    page = storage.get("cursor/page", 1)          # steps with a slash between; without a path all of it
    storage.set("cursor/page", page + 1)
    storage.append("seen", "INV-117")             # makes the list if there is none
    storage.plus("count", 1)                      # adds by `+`, whoever else does so too

    document = storage.read()                     # its value and version, for compare-and-set
    storage.set("", {**document.value, "x": 1}, version=document.version)    # raises StorageConflictError if it moved

    gsettings("custom/office/limits")             # the GSettings tree, as the activity's creator and the robot see it

All activities of a robot share the document. It is no place for secrets and none for large data.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kuberpa_agent.sdk import errors, queues

ANSWER_SECONDS: Final = 60.0

_replacement: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None


class StorageConflictError(errors.QueueError):
    """The document has another version by now: nothing was changed."""

    reason = "NotPossible"


class StorageInvalidError(errors.QueueError):
    """The change is not possible there, or the document would be too large; the message says what would be."""

    reason = "Invalid"


class Document(NamedTuple):
    """A place of the document."""

    found: bool
    value: Any
    version: int
    """Of the whole document, which grows by one with each change; 0: nothing was ever stored."""


def read(path: str = "") -> Document:
    """A place of the document, and the version that it has."""
    return _document(_ask("storageRead", {"path": path}))


def get(path: str = "", default: Any = None) -> Any:
    """What stands at a path; the default when there is nothing."""
    found = read(path)
    return found.value if found.found else default


def set(path: str, value: Any, version: int | None = None) -> Document:  # noqa: A001  storage.set reads as it should
    """Put a value in; objects on the way there are made."""
    return _change("set", path, value, version)


def append(path: str, value: Any, version: int | None = None) -> Document:
    """Add a value to the list at a path."""
    return _change("append", path, value, version)


def plus(path: str, value: Any, version: int | None = None) -> Document:
    """Add a value by `+`: numbers, texts, lists; of an object the keys."""
    return _change("plus", path, value, version)


def delete(path: str = "", version: int | None = None) -> Document:
    """Take out what stands at a path."""
    return _change("delete", path, None, version)


def gsettings(path: str = "") -> Any:
    """The GSettings tree, or what stands at a path of it; None when there is nothing, or nothing that may be seen."""
    return _ask("gsettings", {"path": path}).get("value")


def _change(op: str, path: str, value: Any, version: int | None) -> Document:
    return _document(_ask("storageChange", {"path": path, "value": value, "version": version, "op": op}))


def replace(answer: Callable[[str, dict[str, Any]], dict[str, Any]] | None) -> Any:
    """Have requests answered elsewhere, for tests; returns who did before."""
    global _replacement
    former, _replacement = _replacement, answer
    return former


def _ask(op: str, body: dict[str, Any]) -> dict[str, Any]:
    """Raises StorageConflictError, StorageInvalidError, QueueUnavailableError, NotInRunError."""
    if _replacement is not None:
        return _replacement(op, body)
    pending = queues.backend().call({"op": op, "body": body})
    try:
        answer: dict[str, Any] = pending.wait(ANSWER_SECONDS)
    except TimeoutError:
        pending.abandon()
        raise errors.QueueUnavailableError(f"no answer within {ANSWER_SECONDS:.0f} s") from None
    except errors.QueueError as error:
        for kind in (StorageConflictError, StorageInvalidError):
            if error.reason == kind.reason:
                raise kind(str(error)) from None
        raise
    return answer


def _document(answer: dict[str, Any]) -> Document:
    return Document(bool(answer.get("found")), answer.get("value"), int(answer.get("version", 0)))
