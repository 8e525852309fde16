"""Every item of a queue ends once, while agents, robots' processes, panel, operator and database are killed at random.

KUBERPA_TEST_QUEUE_ITEMS says how many items (300; a hundred thousand is the full proof), KUBERPA_TEST_QUEUE_SECONDS how
long each takes (0.1), KUBERPA_TEST_KILLS how many kills (6), KUBERPA_TEST_SEED which ones.
"""

import json
import os
import random
import signal
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.faults import Night, eventually, manifest
from tests.support.office import Office
from tests.support.queue_robots import PACKAGE, WORKER_ROLE, publish

pytestmark = pytest.mark.timeout(3600)
ITEMS = int(os.environ.get("KUBERPA_TEST_QUEUE_ITEMS", "300"))
SEED = int(os.environ.get("KUBERPA_TEST_SEED", "1"))
KILLS = int(os.environ.get("KUBERPA_TEST_KILLS", "6"))
SECONDS = float(os.environ.get("KUBERPA_TEST_QUEUE_SECONDS", "0.1"))
"""Work on one item."""
ROBOTS = ("one", "two")
QUEUE = "accounted"


@pytest.fixture
def robots(night: Night, tmp_path: Path) -> Iterator[Night]:
    publish(night.cluster, tmp_path)
    group = "--group=system:serviceaccounts:default"
    night.cluster.kubectl("create", "rolebinding", "queue-robots", f"--clusterrole={WORKER_ROLE}", group)
    for name in ROBOTS:
        night.apply(
            {
                **manifest("Robot", name, {"runtime": {"linuxPod": {}}, "packages": [PACKAGE], "concurrency": 2}),
                "metadata": {"name": name, "labels": {"works": QUEUE}},
            }
        )
    for name in ROBOTS:
        eventually(lambda name=name: ready(night, name), f"robot {name} has its package")  # type: ignore[misc]
    yield night
    night.cluster.kubectl("delete", "workqueue", QUEUE, "--ignore-not-found")
    for name in ROBOTS:
        night.cluster.kubectl("delete", "robot", name)


def ready(night: Night, robot: str) -> bool:
    status = night.get("robot", robot).get("status", {})
    return "works.work" in status.get("agent", {}).get("definitions", [])


def answers(night: Night) -> bool:
    """Whether the panel is up, and its database."""
    try:
        with urllib.request.urlopen(f"{night.cluster.panel_url}/readyz", timeout=2) as response:
            return bool(json.load(response)["archive"] == "ok")
    except (OSError, ValueError):
        return False


def processes(want: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if want(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Chaos:
    """Kills one thing after the other, each when everything has recovered from the one before."""

    def __init__(self, night: Night) -> None:
        self._night, self._random = night, random.Random(SEED)
        self.kills: Counter[str] = Counter()

    def run(self, times: int) -> None:
        """So many kills, of each kind about as many."""
        kinds = (self._agent, self._payload, self._robot, self._panel, self._operator, self._database)
        for number in range(times):
            if number % len(kinds) == 0:
                order = self._random.sample(kinds, len(kinds))
            target = order[number % len(kinds)]
            target()
            self.kills[target.__name__.removeprefix("_")] += 1
            eventually(lambda: answers(self._night), f"the panel answers after {self.kills}")
            for name in ROBOTS:
                eventually(lambda name=name: ready(self._night, name), f"{name} is back after {self.kills}")  # type: ignore[misc]

    def _of(self, robot: str) -> list[psutil.Process]:
        pod = self._night.get("pod", f"robot-{robot}")["metadata"]["uid"]
        return processes(lambda process: process.environ().get("KUBERPA_POD_UID") == pod)

    def _kill(self, found: list[psutil.Process]) -> None:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _agent(self) -> None:
        found = self._of(self._random.choice(ROBOTS))
        self._kill([each for each in found if _command(each)[1:] == ["-m", "kuberpa_agent"]])

    def _payload(self) -> None:
        runs = [each for each in self._of(self._random.choice(ROBOTS)) if "KUBERPA_STOP_FILE" in _environment(each)]
        self._kill(self._random.sample(runs, min(1, len(runs))))

    def _robot(self) -> None:
        self._kill(self._of(self._random.choice(ROBOTS)))

    def _panel(self) -> None:
        self._night.keepers["panel"].signal(signal.SIGKILL)

    def _operator(self) -> None:
        self._night.keepers["operator"].signal(signal.SIGKILL)

    def _database(self) -> None:
        pid = self._night.cluster.embedded.supervisor.conditions["postgres"].pid
        if pid:
            self._kill([psutil.Process(pid)])


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_every_item_succeeds_once_whatever_is_killed(robots: Night, tmp_path: Path) -> None:
    night = robots
    trigger = {
        "activity": {"def": "works.work", "input": {"args": [QUEUE]}, "stop": {"gracePeriodSeconds": 10}},
        "robotSelector": {"matchLabels": {"works": QUEUE}},
        "itemsPerActivity": 20,
        "max": 4,
        "cooldownSeconds": 2,
    }
    many = {"application": 100, "abandoned": 100}
    spec = {"leaseSeconds": 2, "uniqueReference": True, "maxAttempts": many, "backoff": {"initialSeconds": 0}}
    night.apply(manifest("WorkQueue", QUEUE, {**spec, "trigger": trigger}))
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps({"n": n, "key": f"k-{n}", "seconds": SECONDS}) + "\n" for n in range(ITEMS)))
    token = night.cluster.kubectl("create", "token", "local-admin", "-n", "kuberpa-system").strip()
    office = Office(night.cluster, "default", token)
    eventually(lambda: answers(night), "the panel answers")
    added = office.kuberpa("queue", "import", QUEUE, str(file), "--reference", "key", seconds=600)
    assert added.stdout == f"{ITEMS} of {ITEMS} rows added\n", added.stderr
    eventually(lambda: counts(night).get("succeeded"), "work has begun")
    chaos = Chaos(night)
    chaos.run(KILLS)
    eventually(
        lambda: counts(night).get("succeeded") == ITEMS, f"all of it is done, after {chaos.kills}", 300 + ITEMS / 20
    )
    export = tmp_path / "done.jsonl"
    assert office.kuberpa("queue", "export", QUEUE, str(export), seconds=600).returncode == 0
    items = [json.loads(line) for line in export.read_text().splitlines()]
    assert Counter(item["payload"]["n"] for item in items) == Counter(range(ITEMS))
    for item in items:
        check_history(item)
    night.cluster.kubectl("delete", "activityitems", "-l", f"kuberpa.dev/queue={QUEUE}")


def counts(night: Night) -> dict[str, Any]:
    return dict(night.get("workqueue", QUEUE).get("status", {}).get("items", {}))


def check_history(item: dict[str, Any]) -> None:
    """It succeeded once, at its end, out of the last lease; and each lease before it ended by itself."""
    steps = [(entry["before"], entry["after"]) for entry in item["history"]]
    assert steps.count(("Leased", "Succeeded")) == 1, item
    assert steps[-1] == ("Leased", "Succeeded"), item
    assert sum(after == "Leased" for _, after in steps) == sum(before == "Leased" for before, _ in steps), item
    assert item["output"]["by"].startswith(QUEUE), item
