"""Lists of whole kinds: what makes the caches complete, and finds what a watch missed."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from kuberpa.client import (
    ACTIVITY_ITEMS,
    CALENDARS,
    LEASES,
    PODS,
    ROBOT_FLEETS,
    ROBOT_HOSTS,
    ROBOT_ROLE_BINDINGS,
    ROBOTS,
    ROLE_BINDINGS,
    ROLES,
    SCHEDULES,
    WORK_QUEUES,
    ApiError,
    NotFoundError,
    Resource,
)
from kuberpa.gsettings import Settings
from kuberpa.names import LABEL_ROBOT, LABEL_ROLE_BINDING
from kuberpa_operator.adapters.api import Api
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.adapters.panels import SELECTOR, PanelBook
from kuberpa_operator.routing import Router

LOOK: Final = 15.0
"""How soon another interval counts."""
BREATH: Final = 20
"""Objects read before others may run."""
SETTLE: Final = 1.0
"""kopf's own list arrives object by object; one list after the last of them is enough."""
KINDS: Final[dict[str, tuple[Resource, dict[str, str]]]] = {
    "Robot": (ROBOTS, {}),
    "Pod": (PODS, {"labelSelector": LABEL_ROBOT}),
    "ActivityItem": (ACTIVITY_ITEMS, {}),
    "Calendar": (CALENDARS, {}),
    "Schedule": (SCHEDULES, {}),
    "WorkQueue": (WORK_QUEUES, {}),
    "RobotFleet": (ROBOT_FLEETS, {}),
    "RobotHost": (ROBOT_HOSTS, {}),
    "RobotRoleBinding": (ROBOT_ROLE_BINDINGS, {}),
    "Role": (ROLES, {"labelSelector": LABEL_ROLE_BINDING}),
    "RoleBinding": (ROLE_BINDINGS, {"labelSelector": LABEL_ROLE_BINDING}),
}
NOTHING: Final = {"fieldSelector": "metadata.name=-"}
"""Of a list: no object has that name, so the answer says no more than that the kind is served."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Relister:
    """Lists kinds in the namespaces served (all when none is named) and drops what is not there any more."""

    api: Api
    router: Router
    panels: PanelBook
    metrics: Metrics
    own_namespace: str
    namespaces: tuple[str, ...]
    every: float = float(Settings().operator.relist_seconds)
    """Seconds between lists of everything."""
    _wanted: set[str] = field(default_factory=set)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self, kind: str) -> None:
        """List a kind soon."""
        self._wanted.add(kind)
        self._asked.set()

    async def everything(self) -> None:
        """List every kind now. Raises ApiError."""
        leases = await self.api.list_all(LEASES, self.own_namespace, labelSelector=SELECTOR)
        self.panels.replace(leases.items)
        for kind in KINDS:
            await self.list(kind)

    async def list(self, kind: str) -> None:
        """List one kind now. Raises ApiError."""
        resource, query = KINDS[kind]
        for namespace in self.namespaces or ("",):
            listing = await self.api.list_all(resource, namespace or None, **query)
            for count, body in enumerate(listing.items):
                self.router.observe(kind, body)
                if count % BREATH == BREATH - 1:
                    await asyncio.sleep(0)  # reading thousands takes seconds, and the Lease must be renewed meanwhile
            present = [body["metadata"]["uid"] for body in listing.items]
            for uid in self.router.absent(kind, present, int(listing.resource_version), namespace):
                self.router.drop(kind, uid)

    async def wait_for_kinds(self) -> None:
        """Wait until the API server serves every kind: kopf looks for them only once."""
        told = False
        while True:
            try:
                for resource, query in KINDS.values():
                    for namespace in self.namespaces or ("",):
                        await self.api.list_all(resource, namespace or None, **query, **NOTHING)
            except ApiError as error:
                if not told:
                    what = (
                        "the CRDs are not installed" if isinstance(error, NotFoundError) else "the API server refuses"
                    )
                    log.warning("waiting: %s: %s", what, error)
                    told = True
                await asyncio.sleep(1)
            else:
                return

    async def run(self) -> None:
        """List kinds that were asked for, and all of them every `every` seconds, for ever."""
        loop = asyncio.get_running_loop()
        listed = loop.time()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK)
            if loop.time() - listed >= self.every:
                listed = loop.time()
                self._wanted |= KINDS.keys()
            if not self._wanted:
                continue
            await asyncio.sleep(SETTLE)
            self._asked.clear()
            wanted, self._wanted = self._wanted, set()
            for kind in sorted(wanted):
                await self._try(kind)

    async def _try(self, kind: str) -> None:
        try:
            await self.list(kind)
        except ApiError as error:
            log.warning("a %s list failed, trying again: %s", kind, error)
            self.ask(kind)
        except Exception:  # the loop's edge: one list that defies the code must not end the others
            log.exception("a %s list failed by a defect", kind)
        else:
            self.metrics.relists.labels(kind).inc()
