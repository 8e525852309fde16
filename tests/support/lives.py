"""Random lives of robots: hundreds of changes of mind and kill -9 of every part in between, held against the truth.

    python -m tests.support.lives --changes 600 --seed 7

A seed gives one sequence of wishes, work, programs, deletions and kills. After each burst of them everything must come
to be as was asked last, and what is reported must be what the process table shows. What may never be is looked for all
the time: a robot that says Stopped while a process of its pod is alive, an attempt that was started twice.
"""

import argparse
import asyncio
import random
import signal
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from tests.support.cluster import running
from tests.support.faults import Night

from kuberpa.client import ACTIVITY_ITEMS, NAMESPACES, PODS, ROBOTS, ApiError, Cluster, Resource
from kuberpa_cli.embedded.cluster import Layer

Body = dict[str, Any]
SETTLE_SECONDS: Final = 150.0
ROBOTS_LIVING: Final = 4
BURST: Final = 12
"""Changes between two looks at the truth."""
AGENT_KILLS: Final = 2
"""For each pod: a container that dies again and again is started ever later, as by a kubelet."""
HEED: Final = (
    'if grep -q Paused "$KUBERPA_ROBOT_STATE_FILE"; then touch "$KUBERPA_HELD_FILE"; else rm -f "$KUBERPA_HELD_FILE"; '
    'i=$((i+1)); fi; test -e "$KUBERPA_STOP_FILE" && exit 0; sleep 0.05'
)
"""A checkpoint in shell: waits while the robot is paused, ends when it is to stop."""
KEEPS: Final = {"command": ["sh", "-c", f"trap 'exit 0' TERM; i=0; while :; do {HEED}; done"]}
ENDS_AT_ONCE: Final = {"command": ["true"], "restartPolicy": "Always", "crashLoop": {"limit": 2, "windowSeconds": 600}}
REACHED: Final = {"Running": {"Idle", "Busy"}, "Paused": {"Paused"}, "Stopped": {"Stopped"}}
FINAL: Final = {"Succeeded", "Failed", "Stopped", "Killed", "Expired", "Lost"}


@dataclass
class Wish:
    """What was asked of one robot last."""

    state: str = "Running"
    control: str = "Auto"
    program: Body | None = None
    restarted_at: str = ""

    @property
    def spec(self) -> Body:
        program = {"program": self.program} if self.program else {}
        return {"runtime": {"linuxPod": {}}, "desiredState": self.state, "control": self.control, **program}


@dataclass
class Town:
    """Robots of one namespace, as watches show them."""

    client: Cluster
    namespace: str
    robots: dict[str, Body] = field(default_factory=dict)
    pods: dict[str, Body] = field(default_factory=dict)
    items: dict[str, Body] = field(default_factory=dict)
    """By UID, those that are gone too: their processes must not outlive them."""
    gone: set[str] = field(default_factory=set)
    """UIDs of items that are gone."""
    pods_of: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Pods that a Robot has said to have, by its UID."""
    offences: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, resource: Resource, see: Callable[[str, Body], None]) -> None:
        """List and watch for ever."""
        while True:
            try:
                listing = await self.client.list_all(resource, self.namespace)
                for body in listing.items:
                    see("MODIFIED", body)
                async for kind, body in self.client.watch(resource, listing.resource_version, self.namespace):
                    if kind != "BOOKMARK":
                        see(kind, body)
                        self.changed.set()
            except ApiError:
                await asyncio.sleep(0.2)

    def see_robot(self, kind: str, body: Body) -> None:
        meta, status = body["metadata"], body.get("status", {})
        if kind == "DELETED":
            if self.robots.get(meta["name"], {}).get("metadata", {}).get("uid") == meta["uid"]:
                del self.robots[meta["name"]]
            return
        self.robots[meta["name"]] = body
        if pod := status.get("pod", {}).get("uid"):
            self.pods_of[meta["uid"]].add(pod)
        if status.get("phase") == "Stopped" and (alive := processes("KUBERPA_POD_UID", self.pods_of[meta["uid"]])):
            self.offences.append(f"{meta['name']} says Stopped while {alive} are alive")

    def see_pod(self, kind: str, body: Body) -> None:
        self.pods[body["metadata"]["uid"]] = body
        if kind == "DELETED":
            del self.pods[body["metadata"]["uid"]]

    def see_item(self, kind: str, body: Body) -> None:
        self.items[body["metadata"]["uid"]] = body
        if kind == "DELETED":
            self.gone.add(body["metadata"]["uid"])


def processes(variable: str, values: set[str]) -> list[str]:
    """Living processes in whose environment a variable begins with one of these values."""
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(variable, "")
            if any(value.startswith(each) for each in values) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:80]} ({value})")
        except (psutil.Error, OSError):
            continue
    return found


class Lives:
    """One sequence: what it asked, and how it holds the town against it."""

    def __init__(self, night: Night, town: Town, seed: int) -> None:
        self.night, self.town = night, town
        self.rng = random.Random(seed)
        self.wishes: dict[str, Wish] = {}
        self.story: list[str] = []
        self.kills: defaultdict[str, int] = defaultdict(int)
        self.count = 0

    async def live(self, changes: int) -> None:
        """So many changes, with a look at the truth after every burst. Raises AssertionError with the story."""
        for number in range(ROBOTS_LIVING):
            await self._create(f"r{number}")
        while self.count < changes:
            for _ in range(min(BURST, changes - self.count)):
                await self._change()
            await self.settle()
            self.story.clear()

    async def _change(self) -> None:
        self.count += 1
        name = self.rng.choice(sorted(self.wishes))
        act = self.rng.choices(
            [
                self._ask,
                self._opposites,
                self._restart,
                self._take_over,
                self._program,
                self._work,
                self._recreate,
                self._kill_part,
                self._kill_agent,
            ],
            [8, 3, 2, 1, 3, 6, 1, 1, 1],
        )[0]
        words = await act(name)
        self.story.append(f"{time.monotonic():.2f} {name}: {words}")
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.random())

    # What may happen

    async def _create(self, name: str) -> str:
        wish = self.wishes[name] = Wish()
        await self.town.client.create(ROBOTS, self.town.namespace, {"metadata": {"name": name}, "spec": wish.spec})
        return "created"

    async def _patch(self, name: str, patch: Body) -> None:
        await self.town.client.merge(ROBOTS, self.town.namespace, name, patch)

    def _draw(self) -> Body:
        state = self.rng.choice(sorted(REACHED))
        mode = self.rng.choice(["Safe", "Force"])
        return {"desiredState": state, "stop": {"mode": mode, "gracePeriodSeconds": self.rng.choice([1, 5, 300])}}

    async def _ask(self, name: str) -> str:
        spec = self._draw()
        self.wishes[name].state = spec["desiredState"]
        await self._patch(name, {"spec": spec})
        return f"{spec}"

    async def _opposites(self, name: str) -> str:
        """Two wishes within 10 ms; the one that the API server has taken last counts."""
        first, second = self._draw(), self._draw()
        patches = [self._patch(name, {"spec": spec}) for spec in (first, second)]
        await asyncio.gather(*patches)
        body = await self.town.client.get(ROBOTS, self.town.namespace, name)
        self.wishes[name].state = body["spec"]["desiredState"]
        return f"{first} and at once {second}: {self.wishes[name].state} came last"

    async def _restart(self, name: str) -> str:
        mode, value = self.rng.choice(["Safe", "Force"]), uuid.UUID(int=self.rng.getrandbits(128)).hex
        self.wishes[name].restarted_at = value
        annotations = {"kuberpa.dev/restarted-at": value, "kuberpa.dev/restart-mode": mode}
        await self._patch(name, {"metadata": {"annotations": annotations}})
        return f"restart {mode}"

    async def _take_over(self, name: str) -> str:
        control = self.wishes[name].control = self.rng.choice(["Auto", "Manual"])
        await self._patch(name, {"spec": {"control": control}})
        return control

    async def _program(self, name: str) -> str:
        program: Body | None = self.rng.choice([None, KEEPS, KEEPS, ENDS_AT_ONCE])
        self.wishes[name].program = program
        whole = {"restartPolicy": None, "crashLoop": None} | program if program else None
        await self._patch(name, {"spec": {"program": whole}})
        return f"program {program and program['command'][-1][:20]}"

    async def _work(self, name: str) -> str:
        steps = self.rng.choice([1, 10, 40])
        note = self.night.entry
        script = self.rng.choice(
            [
                f"{note}; i=0; while [ $i -lt {steps} ]; do {HEED}; done",
                f"{note}; trap '' TERM; sleep {steps / 20}",
                f"{note}; (setsid sleep {steps / 20} &) ; sleep {steps / 40}",
            ]
        )
        item = f"w{self.count}"
        spec = {"robotRef": {"name": name}, "def": "os.command", "input": {"args": [["sh", "-c", script]]}}
        retry = {"retry": {"limit": 2, "backoffSeconds": 0}} if self.rng.random() < 0.5 else {}
        body = {"metadata": {"name": item}, "spec": {**spec, **retry, "ttlSecondsAfterFinished": 3600}}
        await self.town.client.create(ACTIVITY_ITEMS, self.town.namespace, body)
        return f"{item} of {steps} steps"

    async def _recreate(self, name: str) -> str:
        await self.town.client.delete(ROBOTS, self.town.namespace, name)
        gone = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < gone:
            try:
                return f"deleted and {await self._create(name)} anew"
            except ApiError:
                await asyncio.sleep(0.05)
        raise AssertionError(f"{name} is not gone")

    async def _kill_part(self, _: str) -> str:
        program = self.rng.choice(["operator", "panel"])
        keeper = self.night.keepers[program]
        keeper.signal(signal.SIGKILL)
        if program == "operator":
            keeper.crashed()
        return f"kill -9 of the {program}"

    async def _kill_agent(self, name: str) -> str:
        pod = self.town.robots.get(name, {}).get("status", {}).get("pod", {}).get("uid", "")
        if not pod or self.kills[pod] >= AGENT_KILLS:
            return "no agent to kill"
        self.kills[pod] += 1
        for process in psutil.process_iter():
            try:
                is_agent = process.cmdline()[1:] == ["-m", "kuberpa_agent"]
                if is_agent and process.environ().get("KUBERPA_POD_UID") == pod:
                    process.kill()
            except (psutil.Error, OSError):
                continue
        return "kill -9 of its agent"

    # Whether it is so

    async def settle(self) -> None:
        """Wait until everything is as was asked last; nothing that may never be has been seen."""
        end = time.monotonic() + SETTLE_SECONDS
        while wrong := self._wrong():
            self.town.changed.clear()
            try:
                await asyncio.wait_for(self.town.changed.wait(), min(1.0, max(0.0, end - time.monotonic())))
            except TimeoutError:
                if time.monotonic() >= end:
                    break
        twice = [run for run, times in self.night.ledger().items() if times > 1]
        offences = [*wrong, *self.town.offences, *(f"{run} was started twice" for run in twice)]
        assert not offences, "\n".join(["", *self.story, "but:", *offences])

    def _wrong(self) -> list[str]:
        wrong = [what for name, wish in self.wishes.items() if (what := self._wrong_of(name, wish))]
        living = {body["metadata"]["uid"] for body in self.town.robots.values()}
        wrong += [
            f"pod {pod['metadata']['name']} is left of a robot that is gone"
            for pod in self.town.pods.values()
            if pod["metadata"]["ownerReferences"][0]["uid"] not in living
        ]
        return wrong or self._untrue()

    def _wrong_of(self, name: str, wish: Wish) -> str:  # noqa: PLR0911  one return a way to be wrong
        body = self.town.robots.get(name)
        if body is None:
            return f"{name} is not there"
        status, spec = body.get("status", {}), body["spec"]
        if (spec["desiredState"], spec.get("control", "Auto")) != (wish.state, wish.control):
            return f"{name} is asked for {spec['desiredState']}, {spec.get('control')}, not for {wish}"
        reached = REACHED[wish.state]
        if wish.state == "Running" and wish.program is ENDS_AT_ONCE:
            reached = {"CrashLoop"}
        seen = status.get("observedGeneration") == body["metadata"]["generation"]
        if not seen or status.get("phase") not in reached:
            return f"{name} is to be {wish.state} and is {status.get('phase')}: {status.get('message')} {status}"
        conditions = {c["type"]: c["status"] for c in status["conditions"]}
        if (conditions["Ready"] == "True") is not (status["phase"] in REACHED["Running"]):
            return f"{name} is {status['phase']} and Ready is {conditions['Ready']}"
        if wish.state == "Stopped":
            return f"{name} is Stopped with pod {status['pod']}" if "pod" in status else ""
        if wish.restarted_at and status["pod"].get("restartedAt") != wish.restarted_at:
            return f"{name} was not restarted"
        if wish.state == "Running" and wish.program is KEEPS and conditions.get("ProgramRunning") != "True":
            return f"{name}'s program does not run: {status['conditions']}"
        if wish.state == "Running" and status["phase"] == "Busy":
            return f"{name} still works"
        return ""

    def _untrue(self) -> list[str]:
        """Where what is reported is not what the process table shows."""
        wrong = []
        marks = {uid: processes("KUBERPA_RUN", {uid}) for uid in self.town.items}
        for uid, body in self.town.items.items():
            phase = body.get("status", {}).get("phase", "Pending")
            name = body["metadata"]["name"]
            if marks[uid] and (phase in FINAL or uid in self.town.gone):
                wrong.append(f"{name} is {phase}{' and gone' * (uid in self.town.gone)} while {marks[uid]} are alive")
            if phase == "Running" and uid not in self.town.gone and not marks[uid]:
                wrong.append(f"{name} says Running and nothing of it is alive")
        return wrong


@asynccontextmanager
async def town(night: Night) -> AsyncIterator[Town]:
    """A namespace of its own, watched."""
    namespace = f"lives-{uuid.uuid4().hex[:6]}"
    async with await Cluster.connect(night.cluster.kubeconfig) as client:
        await client.create(NAMESPACES, None, {"metadata": {"name": namespace}})
        here = Town(client, namespace)
        watches = [
            asyncio.create_task(here.follow(resource, see))
            for resource, see in ((ROBOTS, here.see_robot), (PODS, here.see_pod), (ACTIVITY_ITEMS, here.see_item))
        ]
        try:
            yield here
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            night.cluster.kubectl("delete", "robots,activityitems", "--all", "-n", namespace, "--timeout=60s")
            await client.delete(NAMESPACES, None, namespace)


async def lived(night: Night, changes: int, seed: int) -> Lives:
    """One sequence from beginning to end."""
    async with town(night) as here:
        lives = Lives(night, here, seed)
        await lives.live(changes)
        return lives


def main() -> None:
    """Long sequences by hand."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.lives", description="Random lives of robots.")
    parser.add_argument("--changes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kuberpa-lives-") as folder:
        place = Path(folder)
        (place / "programs").mkdir()
        with running(place / "cluster", frozenset(Layer) - {Layer.PROGRAMS}) as cluster:
            night = Night(cluster, place / "programs")
            night.start()
            try:
                lives = asyncio.run(lived(night, options.changes, options.seed))
            finally:
                night.stop()
    print(f"{lives.count} changes of {ROBOTS_LIVING} robots: everything came to be as asked", flush=True)


if __name__ == "__main__":
    main()
