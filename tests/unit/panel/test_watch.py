import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kuberpa.activity import ActivityItem
from kuberpa.client import ACTIVITY_ITEMS, GoneError, Listing, Resource, UnavailableError
from kuberpa_panel import watch
from kuberpa_panel.watch import WatchCache


def body(uid: str, version: int, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "name": uid, "namespace": "n", "resourceVersion": str(version)},
        "spec": {"robotRef": {"name": "r"}, "def": "d"},
        "status": status,
    }


class ScriptedCluster:
    """An API server whose lists and watches a test writes."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.lists = 0
        self.events: asyncio.Queue[Any] = asyncio.Queue()

    async def list_all(self, resource: Resource, namespace: str | None = None, **_: str) -> Listing:
        if resource is not ACTIVITY_ITEMS:
            return Listing([], "1")
        self.lists += 1
        return Listing(list(self.objects), "1")

    async def watch(self, resource: Resource, version: str, namespace: str | None = None) -> AsyncIterator[Any]:
        while True:
            event = await (self.events.get() if resource is ACTIVITY_ITEMS else asyncio.Event().wait())
            if isinstance(event, Exception):
                raise event
            yield event


@asynccontextmanager
async def kept(cluster: ScriptedCluster) -> AsyncIterator[WatchCache]:
    cache = WatchCache(cluster)  # type: ignore[arg-type]
    task = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.wait_synced(), 5)
    try:
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the cache is under test, events of its own prove nothing
            await asyncio.sleep(0.005)


async def test_objects_come_change_and_go_with_their_indices() -> None:
    cluster = ScriptedCluster()
    cluster.objects = [body("a", 1, robot="r", lease={"token": 1, "holder": "pod"})]
    async with kept(cluster) as cache:
        assert [item.metadata.uid for item in cache.held_by("pod")] == ["a"]
        assert [item.metadata.uid for item in cache.on_robot("n", "r")] == ["a"]
        cluster.events.put_nowait(("MODIFIED", body("a", 2, robot="s", lease={"token": 2, "holder": "other"})))
        await until(lambda: cache.held_by("other"))
        assert cache.held_by("pod") == []
        assert cache.on_robot("n", "r") == []
        cluster.events.put_nowait(("DELETED", body("a", 3)))
        await until(lambda: cache.items.uid("a") is None)
        assert cache.held_by("other") == []


async def test_after_gone_a_new_list_drops_what_is_absent() -> None:
    cluster = ScriptedCluster()
    cluster.objects = [body("a", 1), body("b", 2)]
    async with kept(cluster) as cache:
        with cache.subscribe() as changes:
            cluster.objects = [body("b", 2)]
            cluster.events.put_nowait(GoneError("too old"))
            await until(lambda: cache.items.uid("a") is None)
            batch = await asyncio.wait_for(changes.take(), 5)
        assert [change.uid for change in batch] == ["a"]
        assert cluster.lists == 2


async def test_a_broken_watch_goes_on_without_a_list() -> None:
    cluster = ScriptedCluster()
    async with kept(cluster) as cache:
        cluster.events.put_nowait(UnavailableError("connection lost"))
        cluster.events.put_nowait(("ADDED", body("a", 5)))
        await until(lambda: cache.items.uid("a") is not None)
        assert cluster.lists == 1


async def test_the_list_is_made_anew_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RELIST_SECONDS", 0.05)
    cluster = ScriptedCluster()
    cluster.objects = [body("a", 1)]
    async with kept(cluster) as cache:
        cluster.objects = []
        await until(lambda: cache.items.uid("a") is None)


async def test_an_object_that_is_not_understood_leaves_the_others_alone() -> None:
    cluster = ScriptedCluster()
    cluster.objects = [body("a", 1), {"metadata": {"uid": "x", "name": "x"}, "spec": {}}]
    async with kept(cluster) as cache:
        assert [item.metadata.uid for item in cache.items] == ["a"]


async def test_a_name_that_is_used_again_belongs_to_the_new_object() -> None:
    cluster = ScriptedCluster()
    cluster.objects = [body("a", 1)]
    async with kept(cluster) as cache:
        again = body("b", 2)
        again["metadata"]["name"] = "a"
        cluster.events.put_nowait(("ADDED", again))
        await until(lambda: cache.items.uid("b") is not None)
        assert cache.items.uid("a") is None
        named = cache.items.get("n", "a")
        assert named is not None
        assert named.metadata.uid == "b"


async def test_changes_are_coalesced_for_a_slow_subscriber() -> None:
    cluster = ScriptedCluster()
    async with kept(cluster) as cache:
        with cache.subscribe() as changes:
            for version in range(1, 51):
                cluster.events.put_nowait(("MODIFIED", body("a", version)))
            await until(cluster.events.empty)
            await until(lambda: cache.items.uid("a") is not None)
            assert len(await changes.take()) == 1


async def test_whoever_waits_for_something_of_an_object_hears_of_it_at_once() -> None:
    cluster = ScriptedCluster()
    async with kept(cluster) as cache:

        def is_second(item: ActivityItem | None) -> bool:
            return item is not None and item.metadata.resource_version == "2"

        waiting = asyncio.create_task(cache.until(cache.items, "n", "a", is_second, 60))
        for version in (1, 2):
            cluster.events.put_nowait(("MODIFIED", body("a", version)))
        async with asyncio.timeout(20):
            assert await waiting
        assert await cache.until(cache.items, "n", "a", is_second, 0), "it holds already"
        assert not await cache.until(cache.items, "n", "b", is_second, 0), "nobody waits for long"
        assert cache._awaited == {}, "and nothing is left of those who waited"


def test_namespaces_are_those_that_have_an_object() -> None:
    cache = WatchCache(None)  # type: ignore[arg-type]  # nothing is listed
    for uid in ("a", "b"):
        cache.items.put(body(uid, 1))
    cache.items.put(body("a", 2))
    cache.items.drop("a")
    assert set(cache.items.namespaces) == {"n"}
    cache.items.drop("b")
    assert not cache.items.namespaces
