"""Each object as GSettings shows it: the manifest's own shape, so that a path names the field to change."""

from typing import Any, Final

from kuberpa.activity import ActivityItem
from kuberpa.meta import ObjectMeta
from kuberpa.model import Model
from kuberpa.names import ANNOTATION_CHANGED_BY, ANNOTATION_CREATED_BY, timestamp
from kuberpa.robot import Robot
from kuberpa_panel.gsettings.masking import masked

_FREE: Final = frozenset({"input", "output", "result", "payload", "custom", "env", "content"})
"""Fields whose content is people's own, where anything may stand."""


def shown(it: Any) -> dict[str, Any]:
    """Metadata, spec and status of an object."""
    body = {"metadata": metadata(it.metadata), "spec": _clean(it.spec)}
    if isinstance(getattr(it, "status", None), Model):
        body["status"] = _clean(it.status)
    return body


def robot(it: Robot) -> dict[str, Any]:
    """A Robot without its agent and its session, which have sections of their own."""
    body = shown(it)
    for section in ("agent", "session"):
        body["status"].pop(section, None)
    return body


def agent(it: Robot) -> dict[str, Any] | None:
    """What is known of a Robot's agent; None when there never was one."""
    return None if it.status.agent is None else _clean(it.status.agent)


def session(it: Robot) -> dict[str, Any] | None:
    """A Robot's session, as its agent saw it last; None when none ever said."""
    return None if it.status.session is None else _clean(it.status.session)


def activity(it: ActivityItem) -> dict[str, Any]:
    """An ActivityItem, whose arguments are free-form."""
    return shown(it)


def metadata(meta: ObjectMeta) -> dict[str, Any]:
    """What people go by."""
    found: dict[str, Any] = {"uid": meta.uid, "generation": meta.generation}
    if meta.creation_timestamp is not None:
        found["creationTimestamp"] = timestamp(meta.creation_timestamp)
    if meta.deletion_timestamp is not None:
        found["deletionTimestamp"] = timestamp(meta.deletion_timestamp)
    if meta.labels:
        found["labels"] = dict(meta.labels)
    for key, annotation in (("createdBy", ANNOTATION_CREATED_BY), ("changedBy", ANNOTATION_CHANGED_BY)):
        if value := meta.annotations.get(annotation):
            found[key] = value
    return found


def _clean(part: Model) -> dict[str, Any]:
    body: dict[str, Any] = _hide(part.to_json())
    return body


def _hide(value: Any) -> Any:
    match value:
        case dict():
            return {key: masked(part) if key in _FREE else _hide(part) for key, part in value.items()}
        case list():
            return [_hide(part) for part in value]
        case _:
            return value
