"""An agent that is quicker than the operator waits at the door, and is asked for its token once."""

import asyncio
import base64
import json
from typing import Any, cast

import pytest

from kuberpa.client import Cluster
from kuberpa_panel.agents import identity
from kuberpa_panel.agents.identity import DeniedError, Identifier
from kuberpa_panel.watch import WatchCache

TOKEN = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b"{}", b'{"exp": 9999999999}', b"s"))


def robot(version: int, pod: str) -> dict[str, Any]:
    meta = {"name": "r", "namespace": "n", "uid": "robot-uid", "resourceVersion": str(version), "generation": 1}
    status = {"pod": {"name": "robot-r", "uid": pod}} if pod else {}
    return {"metadata": meta, "spec": {"runtime": {"linuxPod": {}}}, "status": status}


class ReviewingCluster:
    """An API server that knows a token, and a Robot whose pod is not recorded yet."""

    def __init__(self, pod_name: str = "robot-r") -> None:
        self.reviews, self.reads, self._pod_name = 0, 0, pod_name

    async def create(self, *_: object) -> dict[str, Any]:
        self.reviews += 1
        extra = {identity.POD_UID: ["pod-uid"], identity.POD_NAME: [self._pod_name]}
        user = {"username": "system:serviceaccount:n:robot-r", "extra": extra}
        return json.loads(json.dumps({"status": {"authenticated": True, "audiences": ["kuberpa"], "user": user}}))  # type: ignore[no-any-return]

    async def get(self, *_: object) -> dict[str, Any]:
        self.reads += 1
        return robot(1, "")


async def test_an_agent_is_let_in_as_soon_as_its_pod_is_recorded() -> None:
    api = ReviewingCluster()
    cache = WatchCache(cast("Cluster", api))
    cache.robots.put(robot(1, ""))
    asking = asyncio.create_task(Identifier(cast("Cluster", api), cache).identify(f"Bearer {TOKEN}"))
    while not cache._awaited:  # noqa: ASYNC110  nothing tells that somebody waits
        await asyncio.sleep(0)
    cache.robots.put(robot(2, "pod-uid"))
    async with asyncio.timeout(60):
        assert (await asking).pod_uid == "pod-uid"
    assert (api.reviews, api.reads) == (1, 0)


async def test_an_agent_whose_pod_is_not_recorded_in_time_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "RECORD_SECONDS", 0.01)
    api = ReviewingCluster()
    with pytest.raises(DeniedError, match="not recorded") as caught:
        await Identifier(cast("Cluster", api), WatchCache(cast("Cluster", api))).identify(f"Bearer {TOKEN}")
    assert (caught.value.status, api.reads) == (503, 1)


async def test_another_pod_of_the_account_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ReviewingCluster("somebody-elses")
    cache = WatchCache(cast("Cluster", api))
    monkeypatch.setattr(identity, "RECORD_SECONDS", 3600.0)
    async with asyncio.timeout(60):
        with pytest.raises(DeniedError, match="not the present pod") as caught:
            await Identifier(cast("Cluster", api), cache).identify(f"Bearer {TOKEN}")
    assert caught.value.status == 403
