"""What the operator relies on in an API server: the fake in memory and the real one must agree."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from tests.support.cluster import Cluster as Site

from kuberpa.client import (
    ACTIVITY_ITEMS,
    LEASES,
    NAMESPACES,
    ROBOTS,
    SERVICE_ACCOUNTS,
    Cluster,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from kuberpa_operator.adapters.api import Api
from kuberpa_operator.adapters.clock import SystemClock
from kuberpa_operator.adapters.cluster import FencedCluster, NotLeadingError
from kuberpa_operator.adapters.memory import MemoryApi
from kuberpa_operator.adapters.room import Room

HOME = "contract"
SPEC: dict[str, Any] = {"robotRef": {"name": "r"}, "def": "os.command"}


@pytest.fixture(params=["memory", "real"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    if request.param == "memory":
        yield MemoryApi(SystemClock())
        return
    site: Site = request.getfixturevalue("crds")
    async with await Cluster.connect(site.kubeconfig) as cluster:
        try:
            await cluster.create(NAMESPACES, None, {"metadata": {"name": HOME}})
        except ConflictError:
            for body in (await cluster.list_all(ACTIVITY_ITEMS, HOME)).items:
                await cluster.delete(ACTIVITY_ITEMS, HOME, body["metadata"]["name"])
        yield FencedCluster(cluster, lambda: True, Room(SystemClock().monotonic))


async def make(api: Api, name: str = "one", **meta: Any) -> dict[str, Any]:
    return await api.create(ACTIVITY_ITEMS, HOME, {"metadata": {"name": name, **meta}, "spec": SPEC})


async def test_a_created_object_has_uid_version_generation_and_time(api: Api) -> None:
    meta = (await make(api))["metadata"]
    assert meta["uid"]
    assert int(meta["resourceVersion"]) > 0
    assert meta["generation"] == 1
    assert meta["creationTimestamp"]


async def test_an_object_with_a_finalizer_is_only_marked_until_the_finalizer_is_gone(api: Api) -> None:
    await make(api, finalizers=["kuberpa.dev/in-use"])
    await api.delete(ACTIVITY_ITEMS, HOME, "one")
    marked = await api.read(ACTIVITY_ITEMS, HOME, "one")
    assert marked["metadata"]["deletionTimestamp"]
    await api.merge(ACTIVITY_ITEMS, HOME, "one", {"metadata": {"finalizers": []}})
    with pytest.raises(NotFoundError):
        await api.read(ACTIVITY_ITEMS, HOME, "one")


async def test_a_second_one_of_that_name_is_a_conflict(api: Api) -> None:
    await make(api)
    with pytest.raises(ConflictError):
        await make(api)


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    with pytest.raises(NotFoundError):
        await api.get(ACTIVITY_ITEMS, HOME, "nobody")
    with pytest.raises(NotFoundError):
        await api.read(ACTIVITY_ITEMS, HOME, "nobody")
    with pytest.raises(NotFoundError):
        await api.merge(ACTIVITY_ITEMS, HOME, "nobody", {"spec": {"priority": 1}})
    with pytest.raises(NotFoundError):
        await api.delete(ACTIVITY_ITEMS, HOME, "nobody")


async def test_reading_one_that_is_watched_is_getting_it(api: Api) -> None:
    await make(api)
    body = await api.get(ACTIVITY_ITEMS, HOME, "one")
    read = await api.read(ACTIVITY_ITEMS, HOME, "one")
    assert {**body, "kind": "", "apiVersion": ""} == {**read, "kind": "", "apiVersion": ""}


async def test_status_given_at_creation_is_dropped(api: Api) -> None:
    body = {"metadata": {"name": "one"}, "spec": SPEC, "status": {"phase": "Succeeded"}}
    assert "phase" not in (await api.create(ACTIVITY_ITEMS, HOME, body)).get("status", {})


async def test_the_status_subresource_writes_status_alone(api: Api) -> None:
    await make(api)
    patch = {"spec": {"priority": 7}, "status": {"phase": "Pending", "reason": "RobotBusy"}}
    body = await api.merge(ACTIVITY_ITEMS, HOME, "one", patch, subresource="status")
    assert body["status"]["reason"] == "RobotBusy"
    assert body["spec"].get("priority", 0) == 0
    body = await api.merge(ACTIVITY_ITEMS, HOME, "one", {"spec": {"priority": 7}, "status": {"reason": "Other"}})
    assert (body["spec"]["priority"], body["status"]["reason"]) == (7, "RobotBusy")
    assert body["metadata"]["generation"] == 2


async def test_null_removes_a_field(api: Api) -> None:
    await make(api)
    for status in ({"phase": "Pending", "message": "a"}, {"message": None}):
        body = await api.merge(ACTIVITY_ITEMS, HOME, "one", {"status": status}, subresource="status")
    assert "message" not in body["status"]


async def test_each_change_raises_the_version_and_no_change_does_not(api: Api) -> None:
    first = await make(api)
    second = await api.merge(ACTIVITY_ITEMS, HOME, "one", {"spec": {"priority": 1}})
    third = await api.merge(ACTIVITY_ITEMS, HOME, "one", {"spec": {"priority": 1}})
    versions = [int(body["metadata"]["resourceVersion"]) for body in (first, second, third)]
    assert versions[0] < versions[1] == versions[2]


@pytest.mark.parametrize("subresource", ["", "status"])
async def test_a_patch_that_names_an_old_version_is_a_conflict(api: Api, subresource: str) -> None:
    first = await make(api)
    await api.merge(ACTIVITY_ITEMS, HOME, "one", {"spec": {"priority": 1}})
    version = first["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": {"priority": 2}, "status": {"phase": "Pending"}}
    with pytest.raises(ConflictError):
        await api.merge(ACTIVITY_ITEMS, HOME, "one", patch, subresource=subresource)


async def test_a_patch_that_names_another_object_is_invalid_but_of_status_it_is_not(api: Api) -> None:
    await make(api)
    foreign = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}
    with pytest.raises(InvalidError):
        await api.merge(ACTIVITY_ITEMS, HOME, "one", {**foreign, "spec": {"priority": 1}})
    patch = {**foreign, "status": {"phase": "Pending"}}
    assert await api.merge(ACTIVITY_ITEMS, HOME, "one", patch, subresource="status")


async def test_deleting_another_one_of_that_name_is_a_conflict(api: Api) -> None:
    first = await make(api)
    await api.delete(ACTIVITY_ITEMS, HOME, "one", uid=first["metadata"]["uid"])
    await make(api)
    with pytest.raises(ConflictError):
        await api.delete(ACTIVITY_ITEMS, HOME, "one", uid=first["metadata"]["uid"])
    assert await api.get(ACTIVITY_ITEMS, HOME, "one")


async def test_replacing_at_an_old_version_is_a_conflict(api: Api) -> None:
    body = {"metadata": {"name": "lease"}, "spec": {"holderIdentity": "a"}}
    with suppress(NotFoundError):
        await api.delete(LEASES, HOME, "lease")
    first = await api.create(LEASES, HOME, body)
    await api.replace(LEASES, HOME, {**first, "spec": {"holderIdentity": "b"}})
    with pytest.raises(ConflictError):
        await api.replace(LEASES, HOME, {**first, "spec": {"holderIdentity": "c"}})


async def test_lists_select_by_label_and_say_their_version(api: Api) -> None:
    await make(api, "one", labels={"team": "x"})
    await make(api, "two", labels={"team": "y"})
    last = await make(api, "three")
    for selector, names in (("", ["one", "three", "two"]), ("team", ["one", "two"]), ("team=y", ["two"])):
        query = {"labelSelector": selector} if selector else {}
        listing = await api.list_all(ACTIVITY_ITEMS, HOME, **query)
        assert sorted(body["metadata"]["name"] for body in listing.items) == names
        assert int(listing.resource_version) >= int(last["metadata"]["resourceVersion"])


async def test_kinds_do_not_share_names(api: Api) -> None:
    await make(api, "same")
    robot: dict[str, Any] = {"spec": {"runtime": {"linuxPod": {}}}}
    for resource, body in ((SERVICE_ACCOUNTS, {}), (ROBOTS, robot)):
        with suppress(NotFoundError):
            await api.delete(resource, HOME, "same")
        assert await api.create(resource, HOME, {"metadata": {"name": "same"}, **body})


async def test_a_replica_that_does_not_lead_writes_nothing() -> None:
    fenced = FencedCluster(None, lambda: False, Room(SystemClock().monotonic))  # type: ignore[arg-type]
    with pytest.raises(NotLeadingError):
        await fenced.create(ACTIVITY_ITEMS, HOME, {})
    with pytest.raises(NotLeadingError):
        await fenced.replace(ACTIVITY_ITEMS, HOME, {})
    with pytest.raises(NotLeadingError):
        await fenced.merge(ACTIVITY_ITEMS, HOME, "one", {})
    with pytest.raises(NotLeadingError):
        await fenced.delete(ACTIVITY_ITEMS, HOME, "one")
