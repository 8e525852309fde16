"""An API server in memory, for tests that need no real one. It passes the same contract tests as the real one."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kuberpa.client import ConflictError, InvalidError, Listing, NotFoundError, Resource, UnavailableError
from kuberpa_operator.adapters.api import Body
from kuberpa_operator.adapters.clock import Clock

WITH_STATUS: Final = frozenset(
    {"robots", "robotfleets", "robothosts", "robotrolebindings", "activityitems", "schedules", "calendars", "pods"}
)
CHANGEABLE: Final = frozenset({"labels", "annotations", "ownerReferences", "finalizers"})
"""Of metadata: what a patch changes."""
Watcher = Callable[[str, str, Body], None]
"""Receives resource plural, type (ADDED, MODIFIED, DELETED) and body."""
_Slot = tuple[str, str, str]


@dataclass(slots=True)
class MemoryApi:
    """Objects by resource, namespace and name, with versions, preconditions and the status subresource."""

    clock: Clock
    watchers: list[Watcher] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Verb, plural (with subresource) and name of every request that writes."""
    fail: Callable[[str, str], Exception | None] = lambda verb, plural: None  # noqa: ARG005  a default that never fails
    """Asked before each request, with verb and plural, for an error to raise."""
    lose_answer: Callable[[str], bool] = lambda plural: False  # noqa: ARG005  a default that loses none
    """Asked after each patch, with its plural, whether the connection breaks before the answer."""
    lingering: bool = False
    """Whether pods take their time to end, as with a kubelet."""
    _objects: dict[_Slot, Body] = field(default_factory=dict)
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """One object."""
        self._maybe_fail("get", resource)
        return copy.deepcopy(self._present(resource, namespace, name))

    async def list_all(self, resource: Resource, namespace: str | None = None, **query: str) -> Listing:
        """A whole collection; of selectors, `key` and `key=value` are understood."""
        self._maybe_fail("list", resource)
        label, _, value = query.get("labelSelector", "").partition("=")
        items = [
            copy.deepcopy(body)
            for (plural, home, _), body in self._objects.items()
            if plural == resource.plural and namespace in {None, home} and _selected(body, label, value)
        ]
        return Listing(items, str(next(self._versions)))

    async def read(self, resource: Resource, namespace: str, name: str) -> Body:
        """One object of a kind that is watched. Raises NotFoundError."""
        self._maybe_fail("list", resource)
        return copy.deepcopy(self._present(resource, namespace, name))

    async def create(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Create an object."""
        name = body["metadata"]["name"]
        self._note("create", resource, name)
        slot = (resource.plural, namespace or "", name)
        if slot in self._objects:
            raise ConflictError(f'{resource.plural} "{name}" already exists', status=409, reason="AlreadyExists")
        number = next(self._versions)
        created = copy.deepcopy(body)
        if resource.plural in WITH_STATUS:
            created.pop("status", None)
        created["metadata"] |= {
            "namespace": namespace or "",
            "uid": f"uid-{number}",
            "generation": 1,
            "creationTimestamp": self.clock.now().replace(microsecond=0).isoformat(),
        }
        return self._store(slot, created, "ADDED", number)

    async def replace(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """Put an object at its resourceVersion."""
        name = body["metadata"]["name"]
        self._note("update", resource, name)
        present = self._present(resource, namespace, name)
        self._check(present, body["metadata"])
        return self._store((resource.plural, namespace or "", name), copy.deepcopy(body), "MODIFIED")

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Body, *, subresource: str = ""
    ) -> Body:
        """JSON Merge Patch."""
        self._note("patch", resource, name, subresource)
        present = self._present(resource, namespace, name)
        wanted = dict(patch.get("metadata", {}))
        # of status the real one takes no notice of the UID, of the object it calls it immutable
        if wanted.pop("uid", present["metadata"]["uid"]) != present["metadata"]["uid"] and not subresource:
            raise InvalidError("metadata.uid: field is immutable", status=422, reason="Invalid")
        self._check(present, wanted)
        part = {key: value for key, value in patch.items() if (key == "status") is (subresource == "status")}
        about = {} if subresource else {k: v for k, v in patch.get("metadata", {}).items() if k in CHANGEABLE}
        merged = _merge(copy.deepcopy(present), {k: v for k, v in part.items() if k != "metadata"})
        merged["metadata"] = _merge(merged["metadata"], about)
        if merged == present:
            return copy.deepcopy(present)
        if merged.get("spec") != present.get("spec"):
            merged["metadata"]["generation"] = present["metadata"].get("generation", 0) + 1
        stored = self._store((resource.plural, namespace or "", name), merged, "MODIFIED")
        if self.lose_answer(resource.plural):
            raise UnavailableError("the connection broke before the answer came")
        return stored

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> Body:
        """Delete an object. A pod goes at once, or lingers (`lingering`) until its grace period is said to be 0."""
        self._note("delete", resource, name)
        present = self._present(resource, namespace, name)
        if uid and present["metadata"]["uid"] != uid:
            raise ConflictError(f"the UID is not {uid}", status=409, reason="Conflict")
        if resource.plural == "pods" and self.lingering and grace_seconds != 0:
            own = present.get("spec", {}).get("terminationGracePeriodSeconds", 30)
            marked = copy.deepcopy(present)
            marked["metadata"].setdefault("deletionTimestamp", self.clock.now().isoformat())
            marked["metadata"]["deletionGracePeriodSeconds"] = own if grace_seconds is None else grace_seconds
            return self._store((resource.plural, namespace or "", name), marked, "MODIFIED")
        if present["metadata"].get("finalizers"):
            marked = copy.deepcopy(present)
            marked["metadata"].setdefault("deletionTimestamp", self.clock.now().isoformat())
            return self._store((resource.plural, namespace or "", name), marked, "MODIFIED")
        del self._objects[(resource.plural, namespace or "", name)]
        self._tell(resource.plural, "DELETED", present)
        return {"kind": "Status", "status": "Success", "details": {"uid": present["metadata"]["uid"]}}

    def _present(self, resource: Resource, namespace: str | None, name: str) -> Body:
        try:
            return self._objects[(resource.plural, namespace or "", name)]
        except KeyError:
            raise NotFoundError(f'{resource.plural} "{name}" not found', status=404, reason="NotFound") from None

    def _check(self, present: Body, wanted: Body) -> None:
        for precondition in ("resourceVersion", "uid"):
            if wanted.get(precondition, present["metadata"][precondition]) != present["metadata"][precondition]:
                raise ConflictError(f"the {precondition} has moved", status=409, reason="Conflict")

    def _store(self, slot: _Slot, body: Body, kind: str, number: int | None = None) -> Body:
        body["metadata"]["resourceVersion"] = str(number or next(self._versions))
        if slot[0] != "pods" and "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
            self._objects.pop(slot, None)
            self._tell(slot[0], "DELETED", body)
            return copy.deepcopy(body)
        self._objects[slot] = body
        self._tell(slot[0], kind, body)
        return copy.deepcopy(body)

    def _tell(self, plural: str, kind: str, body: Body) -> None:
        for watcher in list(self.watchers):
            watcher(plural, kind, copy.deepcopy(body))

    def _note(self, verb: str, resource: Resource, name: str, subresource: str = "") -> None:
        self._maybe_fail(verb, resource)
        plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
        self.requests.append((verb, plural, name))

    def _maybe_fail(self, verb: str, resource: Resource) -> None:
        error = self.fail(verb, resource.plural)
        if error is not None:
            raise error


def _selected(body: Body, label: str, value: str) -> bool:
    labels = body["metadata"].get("labels", {})
    return not label or (label in labels and value in {"", labels[label]})


def _merge(target: Body, patch: Body) -> Body:
    """RFC 7396."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            present = target.get(key)
            target[key] = _merge(present if isinstance(present, dict) else {}, value)
        else:
            target[key] = value
    return target
