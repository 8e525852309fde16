"""How punctual many Schedules are: `python -m tests.benchmarks.schedules --schedules 10000`.

Starts an embedded cluster of its own and measures:

- the API server's raw create rate, in the same run, with what the burst has too: the items that the operator makes of
  these Schedules, its account and rights (an administrator's requests pass every queue of the API server), its client,
  and an operator that watches, for each create is told to whoever watches. That operator is a standby, which reads
  and decides nothing. It is the best of several numbers of requests in flight, by a process that does nothing else;
- seconds from the operator's start until it has looked at every Schedule, of a first start and of a restart;
- drift of single firings (two a second): how long after its instant an ActivityItem was there for a watcher;
- how long it took until all that were due at one instant were there, and that as a multiple of the raw rate;
- the same for as many CronJobs on the same control plane, whose Jobs are suspended, so that no pod is made.
"""

import argparse
import asyncio
import re
import signal
import socket
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

from tests.benchmarks.measurement import say
from tests.support.cluster import running
from tests.support.fake_panel import OperatorProcess

from kuberpa.client import ACTIVITY_ITEMS, LEASES, SCHEDULES, Body, Cluster, Resource
from kuberpa.names import ANNOTATION_SCHEDULED_AT
from kuberpa.schedule import Cause, Schedule
from kuberpa_cli.embedded.cluster import Layer
from kuberpa_operator.adapters.elector import LEASE_NAME
from kuberpa_operator.core import firing

NAMESPACE = "default"
SYSTEM = "kuberpa-system"
IN_FLIGHT = 64
RAW_IN_FLIGHT = (16, 64, 128)
CRONJOBS = Resource("cronjobs", "CronJob", "batch", "v1")
JOBS = Resource("jobs", "Job", "batch", "v1")
WORK: Body = {"robotRef": {"name": "nobody"}, "def": "os.command"}


@dataclass
class Result:
    """What was measured; seconds, but for rates."""

    schedules: int
    raw_creates_per_second: float = 0.0
    raw_unwatched: float = 0.0
    first_start: float = 0.0
    restart: float = 0.0
    drift_p50: float = 0.0
    drift_p99: float = 0.0
    burst: int = 0
    burst_seconds: float = 0.0
    burst_times_raw: float = 0.0
    cronjob_burst_seconds: float = 0.0
    missed: list[str] = field(default_factory=list)


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  the benchmark's clock


async def all_of(client: Cluster, resource: Resource, bodies: Iterable[Body], at_a_time: int = IN_FLIGHT) -> float:
    """Create them, so many at a time; seconds that it took."""
    room, began = asyncio.Semaphore(at_a_time), asyncio.get_running_loop().time()

    async def one(body: Body) -> None:
        async with room:
            await client.create(resource, NAMESPACE, body)

    await asyncio.gather(*(one(body) for body in bodies))
    return asyncio.get_running_loop().time() - began


def schedule(name: str, cron: str) -> Body:
    return {"metadata": {"name": name}, "spec": {"schedules": [cron], "action": {"activity": {"spec": WORK}}}}


def at(instant: datetime) -> str:
    """A cron expression of one instant a year."""
    return f"{instant.second} {instant.minute} {instant.hour} {instant.day} {instant.month} *"


def daily(instant: datetime) -> str:
    """A cron expression of one instant a day."""
    return f"{instant.second} {instant.minute} {instant.hour} * * *"


class Arrivals:
    """When objects of a kind were first seen, by name."""

    def __init__(self, client: Cluster, resource: Resource) -> None:
        self._client, self._resource = client, resource
        self.seen: dict[str, tuple[datetime, Body]] = {}
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        version = (await self._client.list_all(self._resource, NAMESPACE)).resource_version
        while True:
            async for kind, body in self._client.watch(self._resource, version, NAMESPACE):
                version = body["metadata"]["resourceVersion"]
                if kind == "ADDED":
                    self.seen[body["metadata"]["name"]] = (now(), body)
                    self._changed.set()

    async def until(self, count: int, wanted: Callable[[Body], bool], seconds: float) -> list[tuple[datetime, Body]]:
        """The first so many that are wanted; fewer when time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(found := self._matching(wanted)) < count:
                    self._changed.clear()
                    await self._changed.wait()
                return found
        return self._matching(wanted)

    def _matching(self, wanted: Callable[[Body], bool]) -> list[tuple[datetime, Body]]:
        return [entry for entry in self.seen.values() if wanted(entry[1])]


@asynccontextmanager
async def watched(client: Cluster, resource: Resource) -> AsyncIterator[Arrivals]:
    arrivals = Arrivals(client, resource)
    task = asyncio.create_task(arrivals.follow())
    try:
        yield arrivals
    finally:
        task.cancel()


def metric(port: int, name: str) -> float:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as response:
        found = re.search(rf"^{name} ([0-9.e+]+)$", response.read().decode(), re.MULTILINE)
        return float(found[1]) if found else -1.0
    return -1.0


async def settled(operator: OperatorProcess, seconds: float = 300.0) -> float:
    """Seconds until it leads and nothing waits to be looked at any more."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < seconds:
        leads = await asyncio.to_thread(metric, operator.port, "kuberpa_operator_leads")
        depth = await asyncio.to_thread(metric, operator.port, "kuberpa_operator_queue_depth")
        if leads == 1 and depth == 0:
            return loop.time() - began
        if operator.ended():
            raise AssertionError(f"the operator has ended: {operator.log.read_text()[-1000:]}")
        await asyncio.sleep(0.25)
    raise AssertionError(f"the operator has not settled within {seconds} s")


def instant_of(body: Body) -> datetime:
    return datetime.fromisoformat(body["metadata"]["annotations"][ANNOTATION_SCHEDULED_AT])


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 4)


async def measure(client: Cluster, operator: OperatorProcess, options: argparse.Namespace) -> Result:
    result = Result(options.schedules, burst=options.burst)
    rest = options.schedules - options.burst - options.singles
    quiet = now() + timedelta(hours=6)
    await all_of(
        client, SCHEDULES, (schedule(f"rest-{n}", daily(quiet + timedelta(seconds=4 * n))) for n in range(rest))
    )
    operator.start()
    result.first_start = round(await settled(operator), 2)
    operator.kill(signal.SIGTERM)
    operator.start()
    result.restart = round(await settled(operator), 2)
    async with watched(client, ACTIVITY_ITEMS) as arrivals:
        await singles(client, arrivals, options, result)
        await burst(client, arrivals, options, result)
    if operator.ended():
        raise AssertionError(f"the operator has ended: {operator.log.read_text()[-1000:]}")
    operator.kill(signal.SIGTERM)
    await raw(client, operator, options, result)
    if options.cronjobs:
        async with watched(client, JOBS) as arrivals:
            await cronjobs(client, arrivals, options, result)
    return result


async def raw(client: Cluster, operator: OperatorProcess, options: argparse.Namespace, result: Result) -> None:
    """The raw rate without an operator, and beside one that may not lead."""
    held = {"holderIdentity": "nobody", "leaseDurationSeconds": 3600, "renewTime": f"{now():%Y-%m-%dT%H:%M:%S.%fZ}"}
    await client.merge(LEASES, SYSTEM, LEASE_NAME, {"spec": held})
    await client.request("DELETE", ACTIVITY_ITEMS.path(NAMESPACE))
    async with await Cluster.connect(operator.kubeconfig) as same:
        result.raw_unwatched = await best_rate(client, same, options.burst)
        operator.start()
        await standing_by(operator)
        result.raw_creates_per_second = await best_rate(client, same, options.burst)
    operator.kill(signal.SIGTERM)
    times = result.burst_seconds * result.raw_creates_per_second / options.burst
    result.burst_times_raw = round(times, 2)


async def standing_by(operator: OperatorProcess) -> None:
    """Wait until it watches; it ends itself when it cannot."""
    while not operator.ended():
        if await asyncio.to_thread(watches, operator.port):
            return
        await asyncio.sleep(0.25)
    raise AssertionError(f"the operator has ended: {operator.log.read_text()[-1000:]}")


def watches(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
        return bool(response.status == HTTPStatus.OK)
    return False


async def best_rate(client: Cluster, same: Cluster, count: int) -> float:
    """Items a second, by the number of requests in flight that is best."""
    owners = [Schedule.of(body) for body in (await client.list_all(SCHEDULES, NAMESPACE)).items][:count]
    rates = []
    for attempt, at_a_time in enumerate(RAW_IN_FLIGHT):
        at = datetime(2001, 1, 1 + attempt, tzinfo=UTC)
        bodies = [firing.fire(owner, Cause.SCHEDULE, at, 0).body for owner in owners]
        rates.append(len(bodies) / await all_of(same, ACTIVITY_ITEMS, bodies, at_a_time))
        await client.request("DELETE", ACTIVITY_ITEMS.path(NAMESPACE))
    return round(max(rates), 1)


async def singles(client: Cluster, arrivals: Arrivals, options: argparse.Namespace, result: Result) -> None:
    begin = (now() + timedelta(seconds=20)).replace(microsecond=0)
    bodies = (schedule(f"single-{n}", at(begin + timedelta(seconds=n // 2))) for n in range(options.singles))
    await all_of(client, SCHEDULES, bodies)
    found = await arrivals.until(options.singles, lambda body: instant_of(body) >= begin, 60 + options.singles / 2)
    if len(found) < options.singles:
        result.missed.append(f"{options.singles - len(found)} single firings")
    drifts = [(seen - instant_of(body)).total_seconds() for seen, body in found]
    result.drift_p50, result.drift_p99 = percentile(drifts, 0.5), percentile(drifts, 0.99)


async def burst(client: Cluster, arrivals: Arrivals, options: argparse.Namespace, result: Result) -> None:
    due = (now() + timedelta(seconds=options.lead)).replace(microsecond=0)
    await all_of(client, SCHEDULES, (schedule(f"burst-{n}", at(due)) for n in range(options.burst)))
    if now() >= due:
        raise AssertionError(f"they were due before all of them were there: --lead {options.lead} is too short")
    found = await arrivals.until(options.burst, lambda body: instant_of(body) == due, 120)
    if len(found) < options.burst:
        result.missed.append(f"{options.burst - len(found)} of the burst")
    result.burst_seconds = round((max((seen for seen, _ in found), default=due) - due).total_seconds(), 3)


async def cronjobs(client: Cluster, arrivals: Arrivals, options: argparse.Namespace, result: Result) -> None:
    due = (now() + timedelta(seconds=90)).replace(second=0, microsecond=0)
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "none:1"}]}
    job = {"spec": {"suspend": True, "template": {"spec": pod}}}
    cron = f"{due.minute} {due.hour} {due.day} {due.month} *"
    spec = {"schedule": cron, "timeZone": "Etc/UTC", "jobTemplate": job}
    await all_of(client, CRONJOBS, ({"metadata": {"name": f"c-{n}"}, "spec": spec} for n in range(options.cronjobs)))
    found = await arrivals.until(options.cronjobs, lambda _: True, 300)
    if len(found) < options.cronjobs:
        result.missed.append(f"{options.cronjobs - len(found)} CronJobs")
    result.cronjob_burst_seconds = round((max(seen for seen, _ in found) - due).total_seconds(), 3)


async def run(kubeconfig: Path, account: Path, folder: Path, options: argparse.Namespace) -> Result:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    operator = OperatorProcess(account, port, "bench", folder / "operator.log")
    try:
        async with await Cluster.connect(kubeconfig) as client:
            return await measure(client, operator, options)
    finally:
        if not operator.ended() and operator.process is not None:
            operator.kill(signal.SIGTERM)


def main() -> int:
    """Run and print. Exit code 1 when a firing is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--burst", type=int, default=1000)
    parser.add_argument("--lead", type=int, default=60, help="seconds in which those of the burst must be there")
    parser.add_argument("--cronjobs", type=int, default=1000, help="0 leaves the peer out")
    options = parser.parse_args()
    layers = {Layer.API, Layer.CHARTS} | ({Layer.NODES} if options.cronjobs else set())
    with (
        tempfile.TemporaryDirectory(prefix="kuberpa-bench-") as folder,
        running(Path(folder), frozenset(layers)) as cluster,
    ):
        account = cluster.token_kubeconfig(SYSTEM, "kuberpa-operator")
        result = asyncio.run(run(cluster.kubeconfig, account, Path(folder), options))
    tell(result)
    return int(bool(result.missed))


def tell(result: Result) -> None:
    """Print what was measured."""
    much = f"{result.schedules:,} Schedules"
    say(
        f"{much}: start of the operator",
        first_seconds=round(result.first_start, 1),
        restart_seconds=round(result.restart, 1),
        target_restart_seconds=15,
    )
    drift = {"p50_ms": round(result.drift_p50 * 1000, 1), "p99_ms": round(result.drift_p99 * 1000, 1)}
    say(f"{much}: drift of single firings", **drift, target_p99_ms=100)
    say(
        f"{much}: {result.burst:,} due at one instant",
        seconds=round(result.burst_seconds, 2),
        raw_creates_a_second=round(result.raw_creates_per_second),
        raw_unwatched=round(result.raw_unwatched),
        times_raw=round(result.burst_times_raw, 2),
        cronjob_controller_seconds=round(result.cronjob_burst_seconds, 2),
        target_times_raw=1.5,
    )


if __name__ == "__main__":
    sys.exit(main())
