"""Schedules that ask for too much, or for nothing, on a real API server with the operator's process."""

import socket
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import running
from tests.support.fake_panel import SYSTEM, OperatorProcess, eventually

from kuberpa.client import ACTIVITY_ITEMS, CALENDARS, SCHEDULES, Cluster
from kuberpa.names import timestamp
from kuberpa_cli.embedded.cluster import Layer
from kuberpa_panel.clock import now

Body = dict[str, Any]
ACTION = {"activity": {"spec": {"robotRef": {"name": "invoices"}, "def": "os.command"}}}
YEAR = timedelta(days=365)
EVERY_FIVE_MINUTES = 105_120
"""Instants of a year."""


@pytest.fixture(scope="module")
def kubeconfigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Of the administrator and of the operator."""
    with running(tmp_path_factory.mktemp("extremes"), {Layer.API, Layer.CHARTS}) as site:
        yield site.kubeconfig, site.token_kubeconfig(SYSTEM, "kuberpa-operator")


@pytest.fixture
async def admin(kubeconfigs: tuple[Path, Path]) -> AsyncIterator[Cluster]:
    async with await Cluster.connect(kubeconfigs[0]) as cluster:
        yield cluster


@pytest.fixture
def operator(kubeconfigs: tuple[Path, Path], tmp_path: Path) -> Iterator[OperatorProcess]:
    """Not started yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    process = OperatorProcess(kubeconfigs[1], port, "a", tmp_path / "operator.log")
    yield process
    if process.process is not None and not process.ended():
        process.kill()


async def schedule(admin: Cluster, name: str, **spec: Any) -> None:
    await admin.create(SCHEDULES, "default", {"metadata": {"name": name}, "spec": {"action": ACTION, **spec}})


async def status(admin: Cluster, name: str) -> Body:
    return dict((await admin.get(SCHEDULES, "default", name)).get("status", {}))


async def ready(admin: Cluster, name: str) -> Body:
    async def condition() -> Body:
        return next(iter((await status(admin, name)).get("conditions", [])), {})

    return await eventually(condition, f"{name} is explained")


async def test_an_operator_that_was_away_for_a_year_fires_once_and_accounts_for_the_rest(
    admin: Cluster, operator: OperatorProcess
) -> None:
    last = (now() - YEAR).replace(minute=0, second=0, microsecond=0)
    await schedule(admin, "often", schedules=["*/5 * * * *"])
    condition = {"type": "Ready", "status": "True", "reason": "Scheduled", "message": "", "observedGeneration": 1}
    former = {
        "observedGeneration": 1,
        "lastScheduleTime": timestamp(last),
        "conditions": [condition | {"lastTransitionTime": timestamp(last)}],
    }
    await admin.merge(SCHEDULES, "default", "often", {"status": former}, subresource="status")
    await schedule(admin, "never", schedules=["0 0 30 2 *"])
    await schedule(admin, "endless", rrule="FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=3;BYMINUTE=0;BYSECOND=0")
    await schedule(admin, "nothing", rrule="FREQ=MINUTELY;BYSETPOS=5")
    twice = {"extraWorkingDays": ["2027-01-08"], "holidays": {"dates": ["2027-01-08"]}}
    await admin.create(CALENDARS, "default", {"metadata": {"name": "torn"}, "spec": twice})
    await schedule(admin, "torn", schedules=["@daily"], calendars={"include": ["torn"]})
    operator.start()

    async def caught_up() -> Body:
        found = await status(admin, "often")
        return found if datetime.fromisoformat(found["lastScheduleTime"]) > now() - YEAR / 2 else {}

    found = await eventually(caught_up, "the year is decided", deadline=150)
    items = (await admin.list_all(ACTIVITY_ITEMS, "default")).items
    assert len([item for item in items if item["metadata"]["name"].startswith("often")]) <= 2
    reasons = {entry["reason"] for entry in found["firings"]}
    assert {"TooManyMissed", "MissedDeadline"} <= reasons
    beyond = next(entry for entry in found["firings"] if entry["reason"] == "TooManyMissed")
    assert datetime.fromisoformat(beyond["time"]) == last
    assert len(str(found)) < EVERY_FIVE_MINUTES / 2

    assert (await ready(admin, "never"))["reason"] == "NeverFires"
    assert (await ready(admin, "endless"))["reason"] == "Scheduled"
    nothing = await ready(admin, "nothing")
    assert nothing["reason"] == "InvalidSchedule"
    assert "spec.rrule: BYSETPOS=5: MINUTELY names 1 time at once" in nothing["message"]
    torn = await ready(admin, "torn")
    assert torn["reason"] == "InvalidCalendar"
    assert "2027-01-08 is a day off in spec.holidays too; leave it in one of them" in torn["message"]
    table = await admin.request("GET", SCHEDULES.path("default", "endless"))
    assert table["status"]["plan"].startswith("FREQ=SECONDLY;BYMONTH=2")
    assert table["status"]["nextScheduleTimes"][0] == "2028-02-29T03:00:00Z"
