"""What people changed of objects past the panel (by kubectl, by Helm): told from what was there and what is there now.

An admission policy stamps each object with the user who wrote it last and the generation that it had then. Managed
fields name programs, not users, so without the stamp the entry says that nobody is named.
"""

from dataclasses import dataclass
from typing import Any, Final

from kuberpa.names import (
    ANNOTATION_CHANGED_BY,
    ANNOTATION_CLAIMED_CREATED_BY,
    ANNOTATION_CREATED_BY,
    ANNOTATION_LEAVING,
    ANNOTATION_ON_BEHALF_OF,
    ANNOTATION_WRITTEN_BY,
    LABEL_FLEET,
)

STAMPS: Final = frozenset(
    {
        ANNOTATION_CREATED_BY,
        ANNOTATION_CHANGED_BY,
        ANNOTATION_CLAIMED_CREATED_BY,
        ANNOTATION_ON_BEHALF_OF,
        ANNOTATION_WRITTEN_BY,
        "kubectl.kubernetes.io/last-applied-configuration",
    }
)
"""Annotations that say nothing of what somebody wanted."""
DIFFERENCES_MOST: Final = 50

Content = dict[str, Any]
UNNAMED: Final = "By a way on which the API server names no user, such as the subresource scale."
DELETED: Final = "The API server names nobody who deletes."


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What somebody did to an object."""

    verb: str
    username: str
    reason: str = ""
    old: dict[str, Any] | None = None
    new: dict[str, Any] | None = None


def content_of(body: dict[str, Any]) -> Content:
    """What people decide of an object: spec, labels, annotations."""
    metadata = body.get("metadata", {})
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k not in STAMPS}
    return {"spec": body.get("spec", {}), "labels": metadata.get("labels", {}), "annotations": annotations}


def writer_of(annotations: dict[str, str], generation: int) -> str | None:
    """Who wrote last. None: kuberpa itself; empty: nobody is named."""
    stamp = annotations.get(ANNOTATION_WRITTEN_BY)
    if stamp is None:
        return None
    stamped, _, user = stamp.partition(" ")
    return user if stamped == str(generation) else ""


def witness(before: Content | None, after: Content, writer: str | None) -> Witnessed | None:
    """What to write down; None: nothing changed, or kuberpa did it, who told of it already."""
    if writer is None or before == after:
        return None
    old, new = differences(before or {}, after)
    verb = "create" if before is None else "update"
    return Witnessed(verb, writer, "" if writer else UNNAMED, None if before is None else old, new)


def witness_deletion(before: Content) -> Witnessed | None:
    """As `witness`, when the object is gone. Members that a fleet told to leave were deleted by the operator."""
    if LABEL_FLEET in before["labels"] and ANNOTATION_LEAVING in before["annotations"]:
        return None
    return Witnessed("delete", "", DELETED)


def differences(old: Any, new: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was and what is, by path, where they differ. Lists are compared as one value."""
    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    _compare("", old, new, was, now)
    return was, now


def _compare(path: str, old: Any, new: Any, was: dict[str, Any], now: dict[str, Any]) -> None:
    if old == new or len(was.keys() | now.keys()) >= DIFFERENCES_MOST:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            _compare(f"{path}.{key}" if path else str(key), old.get(key), new.get(key), was, now)
        return
    if old is not None:
        was[path] = old
    if new is not None:
        now[path] = new
