"""Carries out effects: the only writer besides `report`. One branch an effect."""

import logging
from dataclasses import dataclass
from typing import Final, assert_never

from kuberpa import names
from kuberpa.client import (
    ACTIVITY_ITEMS,
    DISRUPTION_BUDGETS,
    PODS,
    ROBOT_HOSTS,
    ROBOTS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    Resource,
)
from kuberpa.failpoints import Failpoint, reach
from kuberpa_operator.adapters.api import Api, Body
from kuberpa_operator.adapters.clock import Clock
from kuberpa_operator.adapters.events import Recorder, Subject
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.core.effects import (
    AddActivity,
    Announce,
    CreateItem,
    CreateNative,
    CreatePod,
    CreateRobot,
    DeleteItem,
    DeleteNative,
    DeletePod,
    DeleteRobot,
    Effect,
    Fire,
    OrderRobot,
    PatchHost,
    PatchNative,
    PatchRobot,
    ProtectPod,
    StopItem,
    UnprotectPod,
)

log = logging.getLogger(__name__)
Change = tuple[str, Body]
"""Kind and body of an object as the API server answered."""
NATIVES: Final = {"Role": ROLES, "RoleBinding": ROLE_BINDINGS}


class NameTakenError(Exception):
    """An object of that name exists and belongs to somebody else."""


@dataclass(frozen=True, slots=True)
class Performer:
    """Carries out effects on one API server."""

    api: Api
    recorder: Recorder
    metrics: Metrics
    clock: Clock

    async def perform(self, effect: Effect, subject: Subject) -> Change | None:  # noqa: C901, PLR0911, PLR0912  length: one branch an effect
        """One effect, and the change that the API server answered with. Raises ApiError, NameTakenError."""
        match effect:
            case CreatePod():
                return await self._create_pod(effect)
            case DeletePod():
                reach(Failpoint.POD_DELETE_BEFORE)
                pod = await self._delete(PODS, effect.namespace, effect.name, effect.uid, effect.grace_seconds)
                reach(Failpoint.POD_DELETE_AFTER)
                # that it is on its way out is known from the answer, before the watch tells
                return ("Pod", pod) if pod.get("metadata", {}).get("uid") == effect.uid else None
            case ProtectPod():
                await self._protect(effect)
                return None
            case UnprotectPod():
                await self._delete(DISRUPTION_BUDGETS, effect.namespace, effect.name, "")
                return None
            case DeleteItem():
                reach(Failpoint.DELETE_BEFORE)
                await self._delete(ACTIVITY_ITEMS, effect.namespace, effect.name, effect.uid)
                reach(Failpoint.DELETE_AFTER)
                return None
            case Fire():
                return await self._fire(effect)
            case AddActivity():
                return await self._add_activity(effect)
            case CreateItem():
                body = await self._create_owned(ACTIVITY_ITEMS, effect.namespace, effect.body, effect.owner_uid)
                return ("ActivityItem", body)
            case StopItem():
                return await self._stop(effect)
            case CreateRobot():
                body = await self._create_owned(ROBOTS, effect.namespace, effect.body, effect.owner_uid)
                return ("Robot", body)
            case PatchRobot():
                return await self._patch_robot(effect)
            case DeleteRobot():
                await self._delete(ROBOTS, effect.namespace, effect.name, effect.uid)
                return None
            case PatchHost():
                return ("RobotHost", await self.api.merge(ROBOT_HOSTS, effect.namespace, effect.name, effect.patch))
            case OrderRobot():
                return await self._order_robot(effect)
            case CreateNative():
                native = NATIVES[effect.kind]
                body = await self._create_owned(native, effect.namespace, effect.body, effect.owner_uid)
                return (effect.kind, body)
            case PatchNative():
                body = await self.api.merge(NATIVES[effect.kind], effect.namespace, effect.name, effect.patch)
                return (effect.kind, body)
            case DeleteNative():
                await self._delete(NATIVES[effect.kind], effect.namespace, effect.name, effect.uid)
                return None
            case Announce():
                await self.recorder.record(subject, effect)
                return None
            case _:
                assert_never(effect)

    async def _create_pod(self, effect: CreatePod) -> Change:
        reach(Failpoint.POD_BEFORE)
        await self._create_account(effect)
        pod = await self._create_owned(PODS, effect.namespace, effect.pod, effect.owner_uid)
        reach(Failpoint.POD_AFTER)
        return ("Pod", pod)

    async def _protect(self, effect: ProtectPod) -> None:
        try:
            await self.api.create(DISRUPTION_BUDGETS, effect.namespace, effect.budget)
        except ConflictError:
            return  # it was made before a crash
        except (ForbiddenError, InvalidError) as error:
            # the robot works all the same
            log.warning("a pod is not protected from eviction: %s", error)

    async def _create_account(self, effect: CreatePod) -> None:
        """The robot's account. One of a former Robot of its name is only waiting to be collected: it makes way."""
        namespace, body = effect.namespace, effect.service_account
        try:
            await self._create_owned(SERVICE_ACCOUNTS, namespace, body, effect.owner_uid)
        except NameTakenError:
            present = await self.api.get(SERVICE_ACCOUNTS, namespace, body["metadata"]["name"])
            if not _is_of_a_former(present, body):
                raise
            await self._delete(SERVICE_ACCOUNTS, namespace, present["metadata"]["name"], present["metadata"]["uid"])
            await self._create_owned(SERVICE_ACCOUNTS, namespace, body, effect.owner_uid)

    async def _fire(self, effect: Fire) -> Change:
        reach(Failpoint.FIRE_BEFORE)
        item = await self._create_owned(ACTIVITY_ITEMS, effect.namespace, effect.body, effect.owner_uid)
        reach(Failpoint.FIRE_AFTER)
        self.metrics.firings.inc()
        if effect.due is not None:
            self.metrics.drift.observe(max((self.clock.now() - effect.due).total_seconds(), 0.0))
        return ("ActivityItem", item)

    async def _add_activity(self, effect: AddActivity) -> Change:
        reach(Failpoint.FIRE_BEFORE)
        item = await self._create_owned(ACTIVITY_ITEMS, effect.namespace, effect.body, effect.owner_uid)
        reach(Failpoint.FIRE_AFTER)
        self.metrics.triggered.inc()
        return ("ActivityItem", item)

    async def _patch_robot(self, effect: PatchRobot) -> Change:
        about = {**effect.patch.get("metadata", {}), "uid": effect.uid}
        if effect.version:
            about["resourceVersion"] = effect.version
        patch = {**effect.patch, "metadata": about}
        return ("Robot", await self.api.merge(ROBOTS, effect.namespace, effect.name, patch))

    async def _stop(self, effect: StopItem) -> Change | None:
        patch = {"metadata": {"uid": effect.uid}, "spec": {"desiredState": effect.wanted}}
        reach(Failpoint.REPLACE_BEFORE)
        try:
            item = await self.api.merge(ACTIVITY_ITEMS, effect.namespace, effect.name, patch)
        except (NotFoundError, InvalidError):
            return None  # gone, another one of that name, or to be killed anyway: nothing to stop
        reach(Failpoint.REPLACE_AFTER)
        return ("ActivityItem", item)

    async def _order_robot(self, effect: OrderRobot) -> Change | None:
        reach(Failpoint.FIRE_BEFORE)
        try:
            robot = await self.api.merge(ROBOTS, effect.namespace, effect.name, effect.patch)
        except NotFoundError:
            return None  # nothing is wanted of a robot that is gone
        reach(Failpoint.FIRE_AFTER)
        return ("Robot", robot)

    async def _create_owned(self, resource: Resource, namespace: str, body: Body, owner_uid: str) -> Body:
        """Create an object. That it exists already is success only if the same owner made it."""
        name = body["metadata"]["name"]
        try:
            return await self.api.create(resource, namespace, body)
        except ConflictError:
            look = self.api.read if resource.group == names.GROUP else self.api.get
            present = await look(resource, namespace, name)
        owners = {ref.get("uid") for ref in present["metadata"].get("ownerReferences", []) if ref.get("controller")}
        if owner_uid not in owners:
            raise NameTakenError(
                f"{resource.kind} {name!r} exists and belongs to {_whose(present)}: delete it, or choose another name"
            )
        return present

    async def _delete(
        self, resource: Resource, namespace: str, name: str, uid: str, grace_seconds: int | None = None
    ) -> Body:
        """What the API server answers; nothing of what is gone."""
        try:
            return await self.api.delete(resource, namespace, name, uid=uid, grace_seconds=grace_seconds)
        except (NotFoundError, ConflictError):
            return {}  # under that name there may be another one by now


def _is_of_a_former(present: Body, wanted: Body) -> bool:
    """Whether what is there belongs to an owner of the same kind and name as the one for which it is wanted."""
    owners = [
        next(({key: ref[key] for key in ("kind", "name")} for ref in refs if ref.get("controller")), None)
        for refs in (each["metadata"].get("ownerReferences", []) for each in (present, wanted))
    ]
    return owners[0] is not None and owners[0] == owners[1]


def _whose(body: Body) -> str:
    owner = next((ref for ref in body["metadata"].get("ownerReferences", []) if ref.get("controller")), None)
    return f"{owner['kind']} {owner['name']!r} of UID {owner['uid']}" if owner else "nobody"
