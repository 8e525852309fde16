"""What the operator knows of the cluster: the newest version of every object it watches, as frozen models.

Objects come from watches, from lists and from the answers to own writes, in any order: an older version never
replaces a newer one, and a deleted object does not come back. (Versions of one kind are comparable numbers since
Kubernetes 1.35, KEP-5504, and were so in fact with etcd before.)
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from kuberpa.activity import ActivityItem, ActivityItemStatus
from kuberpa.calendar import Calendar
from kuberpa.fleet import RobotFleet
from kuberpa.host import RobotHost
from kuberpa.robot import Robot
from kuberpa.rolebinding import RobotRoleBinding
from kuberpa.schedule import Schedule
from kuberpa.workqueue import WorkQueue, WorkQueueSpec
from kuberpa_operator.core.native import Native, read_native
from kuberpa_operator.core.pod import Pod, read_pod

T = TypeVar("T")
Body = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
TOMBSTONES: Final = 20_000
PARENTS: Final = frozenset({"Schedule", "WorkQueue", "Robot"})
"""Kinds that create ActivityItems."""


@dataclass(slots=True)
class Store(Generic[T]):
    """All objects of one kind, by UID and by name."""

    read: Callable[[Body], T]
    _objects: dict[str, tuple[int, Key, T]] = field(default_factory=dict)
    _names: dict[Key, str] = field(default_factory=dict)
    _buried: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, uid: str) -> bool:
        return uid in self._objects

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """UID and model of every object; a copy, so that the store may change meanwhile."""
        return iter([(uid, model) for uid, (_, _, model) in self._objects.items()])

    def put(self, body: Body) -> bool:
        """Take an object in; False when nothing newer was learnt. Raises ValueError for what is no such object."""
        meta = body["metadata"]
        uid, version = meta["uid"], int(meta["resourceVersion"])
        present = self._objects.get(uid)
        if uid in self._buried or (present is not None and present[0] >= version):
            return False
        key = (meta.get("namespace", ""), meta["name"])
        self._objects[uid] = (version, key, self.read(body))
        former = self._objects.get(self._names.get(key, ""))
        if former is None or former[0] <= version:
            self._names[key] = uid
        return True

    def drop(self, uid: str) -> T | None:
        """Take an object out for good."""
        self._buried[uid] = None
        while len(self._buried) > TOMBSTONES:
            self._buried.popitem(last=False)
        removed = self._objects.pop(uid, None)
        if removed is None:
            return None
        if self._names.get(removed[1]) == uid:
            del self._names[removed[1]]
        return removed[2]

    def absent(self, present: Iterable[str], version: int, namespace: str) -> list[str]:
        """UIDs known that a list of that version (of a namespace, or of all) does not have."""
        listed = set(present)
        return [
            uid
            for uid, (known, key, _) in self._objects.items()
            if uid not in listed and known <= version and namespace in {"", key[0]}
        ]

    def get(self, uid: str) -> T | None:
        """By UID."""
        entry = self._objects.get(uid)
        return entry[2] if entry else None

    def named(self, key: Key) -> T | None:
        """By namespace and name."""
        return self.get(self._names.get(key, ""))


class World:
    """Every object that decisions look at."""

    def __init__(self) -> None:
        self.robots: Store[Robot] = Store(Robot.of)
        self.items: Store[ActivityItem] = Store(read_item)
        self.schedules: Store[Schedule] = Store(Schedule.of)
        self.queues: Store[WorkQueue] = Store(WorkQueue.of)
        self.calendars: Store[Calendar] = Store(Calendar.of)
        self.fleets: Store[RobotFleet] = Store(RobotFleet.of)
        self.hosts: Store[RobotHost] = Store(RobotHost.of)
        self.role_bindings: Store[RobotRoleBinding] = Store(RobotRoleBinding.of)
        self.native_roles: Store[Native] = Store(read_native)
        self.native_bindings: Store[Native] = Store(read_native)
        self.pods: Store[Pod] = Store(read_pod)
        self._pods_of: defaultdict[Key, set[str]] = defaultdict(set)
        self._children: defaultdict[str, set[str]] = defaultdict(set)

    def link_pod(self, pod: Pod) -> None:
        """Remember whose pod it is."""
        self._pods_of[(pod.namespace, pod.robot)].add(pod.uid)

    def link_item(self, item: ActivityItem) -> str:
        """Remember whose an item is: the UID of the Schedule, WorkQueue or Robot, or nothing."""
        owner = owner_of(item)
        if owner:
            self._children[owner].add(item.metadata.uid)
        return owner

    def pod_of(self, robot: Key, name: str) -> Pod | None:
        """The pod of that name which carries the robot's label."""
        known = self._pods_of[robot]
        known.intersection_update([uid for uid in known if uid in self.pods])
        pods = [pod for uid in known if (pod := self.pods.get(uid)) is not None and pod.name == name]
        return max(pods, key=lambda pod: not pod.deleting, default=None)

    def queue_specs(self, namespace: str) -> dict[str, WorkQueueSpec]:
        """Specs of a namespace's work queues, by name."""
        return {q.metadata.name: q.spec for _, q in self.queues if q.metadata.namespace == namespace}

    def children_of(self, parent_uid: str) -> tuple[ActivityItem, ...]:
        """The items that belong to a Schedule, a WorkQueue's trigger or a Robot."""
        known = self._children.get(parent_uid)
        if known is None:
            return ()
        known.intersection_update([uid for uid in known if uid in self.items])
        return tuple(item for uid in known if (item := self.items.get(uid)) is not None)


def owner_of(item: ActivityItem) -> str:
    """UID of the Schedule, WorkQueue or Robot that an item belongs to, or nothing."""
    owners = (ref.uid for ref in item.metadata.owner_references if ref.kind in PARENTS and ref.controller)
    return next(owners, "")


def read_item(body: Body) -> ActivityItem:
    """An ActivityItem from the API. Of a finished one nothing bulky is kept: it is only waiting to be deleted."""
    item = ActivityItem.of(body)
    if not item.status.is_final:
        return item
    blank = ActivityItemStatus()
    bulky = {"result": blank.result, "error": blank.error, "message": blank.message}
    return item.model_copy(
        update={
            "spec": item.spec.model_copy(update={"input": {}}),
            "status": item.status.model_copy(update=bulky),
        }
    )
