"""GSettings for viewers: the tree as they may see it, and changes on their behalf."""

import asyncio
from importlib.metadata import entry_points, version
from typing import Any, Final

from kuberpa.client import GSETTINGS, Body, Cluster, ConflictError
from kuberpa.gsettings import SETTINGS_NAME, Settings
from kuberpa.gsettings_change import Changed, Edit, Place, changed_part, place_of
from kuberpa.names import ANNOTATION_ON_BEHALF_OF, API_VERSION
from kuberpa_panel.api.access import scope_of
from kuberpa_panel.database.pool import Database
from kuberpa_panel.gsettings.masking import masked
from kuberpa_panel.gsettings.projection import RIGHTS, Memo, Sight, World, both, project
from kuberpa_panel.services.access import Access, User, robot_principal
from kuberpa_panel.services.audit import Audit
from kuberpa_panel.services.changes import Author, Change, Changes, Target
from kuberpa_panel.services.storage import Storage
from kuberpa_panel.watch import WatchCache

TRIES: Final = 3
SHARED: Final = 64
"""Projections that are remembered; each is made of the same parts."""
PLUGINS: Final = "kuberpa.panels"
OBJECT_STEPS: Final = 3
"""Steps to an object: section, namespace, name."""


class GSettingsService:
    """The tree, and what may be changed of it."""

    def __init__(  # noqa: PLR0913, PLR0917  the parts that it stands on
        self, access: Access, cluster: Cluster, cache: WatchCache, database: Database, audit: Audit, namespace: str
    ) -> None:
        self._access, self._cluster, self._cache = access, cluster, cache
        self._namespace = namespace
        self._changes = Changes(audit)
        self.storage = Storage(database, audit, lambda: self.settings().storage.max_bytes)
        """What robots keep."""
        self._memo = Memo()
        self._shared: dict[Any, tuple[int, Any, dict[str, Any]]] = {}
        self._versions: dict[str, Any] = {"kuberpa": version("kuberpa-panel"), "api": API_VERSION}
        panels = entry_points(group=PLUGINS)
        self._versions |= {"panels": {each.name: each.dist.version if each.dist else "" for each in panels}}

    @property
    def namespace(self) -> str:
        """Kuberpa's own."""
        return self._namespace

    def settings(self) -> Settings:
        """What is in effect now."""
        found = self._cache.gsettings.get(self._namespace, SETTINGS_NAME)
        return (found.spec.settings if found is not None else None) or Settings()

    async def tree(self, user: User, steps: tuple[str, ...] = ()) -> dict[str, Any]:
        """All that the user may see. A robot's document is in it when the path leads to it."""
        return await self._project(steps, await self.sight(user))

    async def injected(self, creator: str, namespace: str, robot: str) -> dict[str, Any]:
        """What an activity receives: what its creator and its robot may both see.

        Of the creator only the name is known, so rights that come by a group do not count.
        """
        one = await self.sight(User(name=creator, groups=("system:authenticated",)))
        other = await self.sight(robot_principal(namespace, robot))
        return await self._project((), both(one, other))

    async def sight(self, user: User) -> Sight:
        """Where the user has each right that sections ask for. Raises a Problem when it cannot be asked."""
        known = {self._namespace}.union(*(store.namespaces for store in self._cache.stores))
        scopes = await asyncio.gather(*(scope_of(self._access, user, *right, known) for right in RIGHTS))
        return dict(zip(RIGHTS, scopes, strict=True))

    def version_of(self, steps: tuple[str, ...]) -> str:
        """ResourceVersion of the object that an editable path is of; empty when there is none."""
        place = place_of(steps, self._namespace)
        found = self._cache.gsettings.get(place.namespace, place.name)
        return "" if found is None else found.metadata.resource_version

    async def change(self, author: Author, place: Place, edit: Edit) -> Changed:
        """Write one field of one GSettings on a user's behalf, whose rights are checked already.

        Raises ChangeError, ConflictError when it was changed since the version named, other ApiErrors,
        ArchiveUnavailableError.
        """
        target = Target("GSettings", place.namespace, place.name, place.field)
        async with self._changes.record(author, edit.op, target) as entry:
            body, old, new = await self._tried(author, place, edit)
            changed = body["metadata"]["resourceVersion"]
            entry.old, entry.new = masked(old), masked(new)
        self._cache.gsettings.put(body)
        return Changed(
            namespace=place.namespace, name=place.name, field=place.field, resource_version=changed, old=old, new=new
        )

    async def history(self, place: Place) -> tuple[Change, ...]:
        """The latest changes of the object. Raises ArchiveUnavailableError."""
        return await self._changes.of("GSettings", place.namespace, place.name)

    async def changes_of_storage(self, namespace: str, robot: str) -> tuple[Change, ...]:
        """What people changed of a robot's storage last. Raises ArchiveUnavailableError."""
        return await self._changes.of("Robot", namespace, robot)

    async def _tried(self, author: Author, place: Place, edit: Edit) -> tuple[Body, Any, Any]:
        """Without a version named, a change that another one overtook is made again on what is there then."""
        for attempt in range(TRIES):
            present = await self._read(place)
            found = present["metadata"]["resourceVersion"] if present else ""
            if edit.resource_version not in {"", found}:
                raise ConflictError(
                    f"GSettings {place.namespace}/{place.name} has resourceVersion {found or 'none'} by now, not "
                    f"{edit.resource_version}. Nothing was changed: read it again"
                )
            spec = present["spec"] if present else {}
            section, old, new = changed_part(spec, place, edit)
            try:
                body = await self._write(author, place, present, {**spec, place.section: section})
            except ConflictError:
                if edit.resource_version or attempt + 1 == TRIES:
                    raise
            else:
                return body, old, new
        raise AssertionError("the last try returns or raises")

    async def _read(self, place: Place) -> Body | None:
        """As it is now: what is watched is read again by a list of one, which takes no right of its own."""
        listing = await self._cluster.list_all(GSETTINGS, place.namespace, fieldSelector=f"metadata.name={place.name}")
        return listing.items[0] if listing.items else None

    async def _write(self, author: Author, place: Place, present: Body | None, spec: Body) -> Body:
        if present is None:
            metadata = {"name": place.name, "annotations": {ANNOTATION_ON_BEHALF_OF: author.name}}
            return await self._cluster.create(GSETTINGS, place.namespace, {"metadata": metadata, "spec": spec})
        annotations = present["metadata"].get("annotations", {}) | {ANNOTATION_ON_BEHALF_OF: author.name}
        metadata = {**present["metadata"], "annotations": annotations}
        body = {
            "apiVersion": GSETTINGS.api_version,
            "kind": GSETTINGS.kind,
            "metadata": metadata,
            "spec": spec,
        }
        return await self._cluster.replace(GSETTINGS, place.namespace, body)

    async def _project(self, steps: tuple[str, ...], sight: Sight) -> dict[str, Any]:
        """Viewers who see the same share one projection for as long as nothing changes."""
        world, generation, key = await self._world(steps), self._cache.generation, tuple(sight.items())
        known = self._shared.get(key)
        if known is not None and known[:2] == (generation, world.storage):
            return known[2]
        tree = project(world, sight)
        self._shared.pop(key, None)
        self._shared[key] = (generation, world.storage, tree)
        if len(self._shared) > SHARED:
            del self._shared[next(iter(self._shared))]
        return tree

    async def _world(self, steps: tuple[str, ...]) -> World:
        cache = self._cache
        storage: dict[tuple[str, str], dict[str, Any]] = dict(await self.storage.heads())
        if steps[:1] == ("storage",) and len(steps) >= OBJECT_STEPS:
            place = (steps[1], steps[2])
            if place in storage:
                stored = await self.storage.read(*place)
                storage[place] = {**storage[place], "document": masked(stored.value)}
        self._forget()
        return World(
            namespace=self._namespace,
            robots=cache.robots,
            fleets=cache.fleets,
            hosts=cache.hosts,
            activities=cache.items,
            queues=cache.queues,
            schedules=cache.schedules,
            calendars=cache.calendars,
            gsettings=cache.gsettings,
            storage=storage,
            versions=self._versions,
            memo=self._memo,
        )

    def _forget(self) -> None:
        """Drop what was remembered of objects that are gone, once that is most of it."""
        stores = self._cache.stores
        if len(self._memo) > 1000 + 4 * sum(map(len, stores)):
            self._memo.trim(each.metadata.uid for store in stores for each in store)
