import json
import logging
from collections.abc import Callable
from typing import Any, Final

from kuberpa.activity import MAX_INPUT_BYTES, ActivityItem, ActivityItemSpec, ActivityPhase, DesiredState
from kuberpa.client import ACTIVITY_ITEMS, Cluster
from kuberpa.names import ANNOTATION_CREATED_BY, ANNOTATION_ON_BEHALF_OF, LABEL_SCHEDULE
from kuberpa_panel.language import _
from kuberpa_panel.services.access import User
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

_NAME_PREFIX_MAX: Final = 40


class InputError(ValueError):
    """The request is wrong; the message names the field."""


class Activities:
    """Live items, as the API server has them, and what users may do with them."""

    def __init__(self, cluster: Cluster, cache: WatchCache) -> None:
        self._cluster, self._cache = cluster, cache

    def list(
        self,
        namespace: str | None = None,
        *,
        robot: str | None = None,
        schedule: str | None = None,
        phases: frozenset[ActivityPhase] = frozenset(),
        where: Callable[[ActivityItem], bool] | None = None,
    ) -> list[ActivityItem]:
        """Items that still exist, the newest first. Without phases: all of them.

        `robot` matches the assigned robot or the named one.
        """

        def wanted(item: ActivityItem) -> bool:
            return (
                namespace in (None, item.metadata.namespace)
                and (robot is None or robot in (item.status.robot, item.spec.robot_ref and item.spec.robot_ref.name))
                and (schedule is None or item.metadata.labels.get(LABEL_SCHEDULE) == schedule)
                and (not phases or item.status.phase in phases)
                and (where is None or where(item))
            )

        found = [item for item in self._cache.items if wanted(item)]
        found.sort(key=lambda item: (str(item.metadata.creation_timestamp), item.metadata.name), reverse=True)
        return found

    def get(self, namespace: str, name: str) -> ActivityItem | None:
        """The item with this name, None when it is gone (its history may exist)."""
        return self._cache.items.get(namespace, name)

    def by_uid(self, uid: str) -> ActivityItem | None:
        """The item with this UID, None when it is gone (its history may exist)."""
        return self._cache.items.uid(uid)

    async def create(
        self,
        user: User,
        namespace: str,
        spec: ActivityItemSpec | dict[str, Any],
        *,
        name: str = "",
        labels: dict[str, str] | None = None,
    ) -> ActivityItem:
        """Create an item on behalf of the user. Without a name one is generated from the definition's.

        Raises InputError for an input over MAX_INPUT_BYTES, InvalidError and ForbiddenError as the API server says.
        """
        body = spec.to_json() if isinstance(spec, ActivityItemSpec) else spec
        size = len(json.dumps(body.get("input", {}), ensure_ascii=False).encode("utf-8", "replace"))
        if size > MAX_INPUT_BYTES:
            raise InputError(
                _(
                    "spec.input is %(size)s bytes of JSON; at most %(limit)s are accepted",
                    size=size,
                    limit=MAX_INPUT_BYTES,
                )
            )
        metadata: dict[str, Any] = {"annotations": {ANNOTATION_ON_BEHALF_OF: user.name}, "labels": labels or {}}
        if name:
            metadata["name"] = name
        else:
            metadata["generateName"] = _prefix(str(body.get("def", "")))
        created = await self._cluster.create(ACTIVITY_ITEMS, namespace, {"metadata": metadata, "spec": body})
        log.info("%s created %s/%s", user.name, namespace, created["metadata"]["name"])
        return ActivityItem.of(created)

    async def stop(self, user: User, namespace: str, name: str, *, uid: str = "") -> ActivityItem:
        """Ask an item to end; it is killed after its grace period. As `_desire`."""
        return await self._desire(user, namespace, name, uid, DesiredState.STOP)

    async def kill(self, user: User, namespace: str, name: str, *, uid: str = "") -> ActivityItem:
        """Kill an item now. As `_desire`."""
        return await self._desire(user, namespace, name, uid, DesiredState.KILL)

    async def _desire(self, user: User, namespace: str, name: str, uid: str, state: DesiredState) -> ActivityItem:
        """Patch desiredState; with uid only of that very item (ConflictError otherwise). Raises NotFoundError."""
        patch: dict[str, Any] = {"spec": {"desiredState": state.value}}
        if uid:
            patch["metadata"] = {"uid": uid}
        body = await self._cluster.merge(ACTIVITY_ITEMS, namespace, name, patch)
        log.info("%s asked to %s %s/%s", user.name, state.value.lower(), namespace, name)
        return ActivityItem.of(body)


def requested_by(item: ActivityItem) -> str:
    """The user for whom an item runs: the admission policy lets only kuberpa's own accounts name another one."""
    annotations = item.metadata.annotations
    return annotations.get(ANNOTATION_ON_BEHALF_OF) or annotations.get(ANNOTATION_CREATED_BY) or ""


def _prefix(definition: str) -> str:
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in definition.lower()).strip("-")
    return (letters[:_NAME_PREFIX_MAX].strip("-") or "activity") + "-"
