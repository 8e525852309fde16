"""A cache of what the panel serves, kept by list and watch; complete once `synced`, purged at every list.

A watch alone is neither complete nor purged: everything is listed anew after 410 Gone and every five minutes.
Subscribers learn which keys changed, coalesced and level-triggered: they read the state that is.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from kuberpa.activity import ActivityItem
from kuberpa.calendar import Calendar
from kuberpa.client import (
    ACTIVITY_ITEMS,
    CALENDARS,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    GSETTINGS,
    ROBOT_FLEETS,
    ROBOT_HOSTS,
    ROBOT_ROLE_BINDINGS,
    ROBOTS,
    ROLE_BINDINGS,
    ROLES,
    SCHEDULES,
    WORK_QUEUES,
    ApiError,
    Body,
    Cluster,
    GoneError,
    Resource,
)
from kuberpa.fleet import RobotFleet
from kuberpa.gsettings import GSettings
from kuberpa.host import RobotHost
from kuberpa.robot import Robot
from kuberpa.rolebinding import RobotRoleBinding
from kuberpa.schedule import Schedule
from kuberpa.workqueue import WorkQueue
from kuberpa_panel.rbac import NativeBinding, NativeRole, RightsIndex

log = logging.getLogger(__name__)

RELIST_SECONDS: Final = 300.0
BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)

T = TypeVar(
    "T",
    Robot,
    RobotFleet,
    ActivityItem,
    Schedule,
    WorkQueue,
    Calendar,
    GSettings,
    RobotHost,
    RobotRoleBinding,
    NativeRole,
    NativeBinding,
)


class Change(NamedTuple):
    """Something happened to this object; it may be gone."""

    kind: str
    namespace: str
    name: str
    uid: str


class Subscription:
    """Keys that changed since they were last taken. Bounded by the number of objects."""

    def __init__(self) -> None:
        self._keys: dict[Change, None] = {}
        self._event = asyncio.Event()

    def add(self, change: Change) -> None:
        """Note a change."""
        self._keys[change] = None
        self._event.set()

    async def take(self) -> Sequence[Change]:
        """Wait for changes and take all of them."""
        await self._event.wait()
        self._event.clear()
        keys, self._keys = list(self._keys), {}
        return keys

    async def __aiter__(self) -> AsyncIterator[Sequence[Change]]:
        while True:
            yield await self.take()


class Store(Generic[T]):
    """All objects of one kind, by UID and by name. The last valid reading of an object wins."""

    def __init__(self, resource: Resource, model: type[T], changed: Callable[[T | None, T | None], None]) -> None:
        self.resource = resource
        self._model: type[T] = model
        self._changed: Callable[[T | None, T | None], None] = changed
        self._by_uid: dict[str, T] = {}
        self._by_name: dict[tuple[str, str], T] = {}
        self._spaces: Counter[str] = Counter()

    @property
    def namespaces(self) -> AbstractSet[str]:
        """Those that have an object of this kind."""
        return self._spaces.keys()

    def __len__(self) -> int:
        return len(self._by_uid)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._by_uid.values()))

    def uid(self, uid: str) -> T | None:
        """The object with this UID."""
        return self._by_uid.get(uid)

    def get(self, namespace: str, name: str) -> T | None:
        """The object with this name."""
        return self._by_name.get((namespace, name))

    def put(self, body: Body) -> None:
        """Add or replace an object. One that cannot be read is left out, and logged."""
        try:
            new = self._model.of(body)
        except ValidationError as error:
            meta = body.get("metadata", {})
            where = f"{meta.get('namespace')}/{meta.get('name')}"
            log.warning("%s %s is not understood: %s", self.resource.kind, where, error)
            return
        meta = new.metadata
        named = self._by_name.get((meta.namespace, meta.name))
        if named is not None and named.metadata.uid != meta.uid:
            self.drop(named.metadata.uid)
        old = self._by_uid.get(meta.uid)
        if old is not None and old.metadata.resource_version == meta.resource_version:
            return
        if old is None:
            self._spaces[meta.namespace] += 1
        self._by_uid[meta.uid] = new
        self._by_name[meta.namespace, meta.name] = new
        self._changed(old, new)

    def drop(self, uid: str) -> None:
        """Forget an object."""
        old = self._by_uid.pop(uid, None)
        if old is None:
            return
        self._spaces[old.metadata.namespace] -= 1
        if not self._spaces[old.metadata.namespace]:
            del self._spaces[old.metadata.namespace]
        named = (old.metadata.namespace, old.metadata.name)
        if self._by_name.get(named) is old:
            del self._by_name[named]
        self._changed(old, None)

    def replace(self, namespace: str | None, bodies: Iterable[Body]) -> None:
        """Make this scope exactly what was listed."""
        present = set()
        for body in bodies:
            present.add(body["metadata"]["uid"])
            self.put(body)
        for old in self:
            if old.metadata.uid not in present and namespace in (None, old.metadata.namespace):
                self.drop(old.metadata.uid)


@dataclass(slots=True)
class _Scope:
    """One list-and-watch: a kind in one namespace, or in all."""

    store: Store[Any]
    namespace: str | None
    version: str = ""
    """Where to watch from; empty: list first."""
    listed_at: float = 0.0
    """On the loop's clock."""
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was listed."""


class WatchCache:
    """Robots, activity items, schedules, work queues and calendars as the API server has them now."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] = (), own: str = "") -> None:
        """`own`: kuberpa's own namespace, whose GSettings are watched too when others are served."""
        self._cluster = cluster
        self._subscriptions: set[Subscription] = set()
        self._observers: list[Callable[[Any, Any], None]] = []
        self._awaited: dict[tuple[str, str, str], set[asyncio.Event]] = {}
        """Who waits for a change of an object, by its kind, namespace and name."""
        self.generation = 0
        """Grows with every change: the same number, the same objects."""
        self._by_holder: dict[str, set[str]] = defaultdict(set)
        self._by_robot: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.robots = Store(ROBOTS, Robot, self._publish)
        self.items = Store(ACTIVITY_ITEMS, ActivityItem, self._item_changed)
        self.schedules = Store(SCHEDULES, Schedule, self._publish)
        self.queues = Store(WORK_QUEUES, WorkQueue, self._publish)
        self.calendars = Store(CALENDARS, Calendar, self._publish)
        self.fleets = Store(ROBOT_FLEETS, RobotFleet, self._publish)
        self.hosts = Store(ROBOT_HOSTS, RobotHost, self._publish)
        self.role_bindings = Store(ROBOT_ROLE_BINDINGS, RobotRoleBinding, self._publish)
        served: tuple[Store[Any], ...] = (
            self.robots,
            self.items,
            self.schedules,
            self.queues,
            self.calendars,
            self.fleets,
            self.hosts,
            self.role_bindings,
        )
        self._scopes = [_Scope(store, namespace) for store in served for namespace in (namespaces or (None,))]
        self.gsettings = Store(GSETTINGS, GSettings, self._publish)
        self.stores = (*served, self.gsettings)
        """One of each kind."""
        everywhere = dict.fromkeys((*namespaces, own)) if namespaces and own else namespaces or (None,)
        self._scopes += [_Scope(self.gsettings, namespace) for namespace in everywhere]
        self.rights = self._watch_rights(namespaces)
        """Who is given what by name."""

    def _watch_rights(self, namespaces: Sequence[str]) -> RightsIndex:
        def changed(old: Any, new: Any) -> None:  # noqa: ARG001  the index is made anew when it is asked next
            index.forget()

        roles, bindings = Store(ROLES, NativeRole, changed), Store(ROLE_BINDINGS, NativeBinding, changed)
        cluster_roles = Store(CLUSTER_ROLES, NativeRole, changed)
        cluster_bindings = Store(CLUSTER_ROLE_BINDINGS, NativeBinding, changed)
        index = RightsIndex(roles, cluster_roles, bindings, cluster_bindings)
        local: tuple[Store[Any], ...] = (roles, bindings)
        self._scopes += [_Scope(store, namespace) for store in local for namespace in (namespaces or (None,))]
        self._scopes += [_Scope(cluster_roles, None), _Scope(cluster_bindings, None)]
        return index

    @property
    def synced(self) -> bool:
        """Whether every kind was listed at least once: before that, absence proves nothing."""
        return all(scope.listed.is_set() for scope in self._scopes)

    async def wait_synced(self) -> None:
        """Return once `synced`."""
        for scope in self._scopes:
            await scope.listed.wait()

    def held_by(self, identity: str) -> list[ActivityItem]:
        """Items whose last assignment this agent holds."""
        return self._items(self._by_holder.get(identity, ()))

    def on_robot(self, namespace: str, robot: str) -> list[ActivityItem]:
        """Items whose last assignment was to this robot."""
        return self._items(self._by_robot.get((namespace, robot), ()))

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Changes from now on, of every kind."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @contextmanager
    def observe(self, observer: Callable[[Any, Any], None]) -> Iterator[None]:
        """Call this with every version that a watch tells, before and after; None: there is none."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    async def until(
        self, store: Store[T], namespace: str, name: str, holds: Callable[[T | None], bool], seconds: float
    ) -> bool:
        """Whether something holds of an object, or comes to hold of it within so many seconds."""
        key = (store.resource.kind, namespace, name)
        changed = asyncio.Event()
        waiting = self._awaited.setdefault(key, set())
        waiting.add(changed)
        try:
            async with asyncio.timeout(seconds):
                while not holds(store.get(namespace, name)):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            waiting.discard(changed)
            if not waiting:
                self._awaited.pop(key, None)
        return True

    async def run(self) -> None:
        """Keep the cache until cancelled."""
        async with asyncio.TaskGroup() as group:
            for scope in self._scopes:
                group.create_task(self._keep(scope))

    async def _keep(self, scope: _Scope) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                if not scope.version:
                    await self._list(scope)
                await self._watch_until_due(scope)
            except GoneError:
                scope.version = ""
            except ApiError as error:
                log.warning("watch of %s: %s", scope.store.resource.plural, error)
                failures = 0 if loop.time() - began > BACKOFF_SECONDS[-1] else failures + 1
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])

    async def _list(self, scope: _Scope) -> None:
        listing = await self._cluster.list_all(scope.store.resource, scope.namespace)
        scope.store.replace(scope.namespace, listing.items)
        scope.version = listing.resource_version
        scope.listed_at = asyncio.get_running_loop().time()
        scope.listed.set()

    async def _watch_until_due(self, scope: _Scope) -> None:
        """Apply changes until the next list is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(scope.listed_at + RELIST_SECONDS):
                await self._consume(scope)
        scope.version = ""

    async def _consume(self, scope: _Scope) -> None:
        while True:
            async for kind, body in self._cluster.watch(scope.store.resource, scope.version, scope.namespace):
                if kind == "DELETED":
                    scope.store.drop(body["metadata"]["uid"])
                elif kind != "BOOKMARK":
                    scope.store.put(body)
                scope.version = body["metadata"]["resourceVersion"]

    def _items(self, uids: Iterable[str]) -> list[ActivityItem]:
        return [item for uid in uids if (item := self.items.uid(uid)) is not None]

    def _item_changed(self, old: ActivityItem | None, new: ActivityItem | None) -> None:
        if old is not None:
            _forget(self._by_holder, old.status.lease.holder, old.metadata.uid)
            _forget(self._by_robot, (old.metadata.namespace, old.status.robot), old.metadata.uid)
        if new is not None:
            self._by_holder[new.status.lease.holder].add(new.metadata.uid)
            self._by_robot[new.metadata.namespace, new.status.robot].add(new.metadata.uid)
        self._publish(old, new)

    def _publish(self, old: Any, new: Any) -> None:
        self.generation += 1
        it = new if new is not None else old
        kind = type(it).__name__
        meta = it.metadata
        for changed in self._awaited.get((kind, meta.namespace, meta.name), ()):
            changed.set()
        for subscription in self._subscriptions:
            subscription.add(Change(kind, meta.namespace, meta.name, meta.uid))
        for observer in self._observers:
            observer(old, new)


def _forget(index: dict[Any, set[str]], key: Any, uid: str) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(uid)
        if not members:
            del index[key]
