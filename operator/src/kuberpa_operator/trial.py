"""`python -m kuberpa_operator.trial`: proves an installation, which is what `helm test` runs.

A robot of its own is started, one activity runs on it, and both are removed. What it prints is for whoever has just
installed kuberpa: each step as it happens, and, when one does not, what was seen last and where to look.
"""

import argparse
import asyncio
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from kuberpa.activity import FINAL_PHASES
from kuberpa.client import ACTIVITY_ITEMS, ROBOTS, ApiError, Cluster, GoneError, NotFoundError, UnavailableError

RETRY_SECONDS: Final = 1.0
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try, and where."""

    namespace: str
    name: str
    image: str = ""
    timeout_seconds: float = 300.0

    @property
    def robot(self) -> Body:
        """The robot's manifest."""
        pod = {"image": self.image} if self.image else {}
        return {"metadata": {"name": self.name}, "spec": {"runtime": {"linuxPod": pod}}}

    @property
    def item(self) -> Body:
        """The activity's manifest."""
        spec = {"robotRef": {"name": self.name}, "def": "os.command", "input": {"args": [["echo", "kuberpa works"]]}}
        return {"metadata": {"name": self.name}, "spec": spec}


def describe(item: Body) -> str:
    """Where an activity is: its phase, and why."""
    status = item.get("status", {})
    words = (status.get("phase", "not seen by the operator yet"), status.get("reason", ""), status.get("message", ""))
    return ": ".join(filter(None, words))


def advise(robot: Body, item: Body, namespace: str) -> str:
    """What to do about an activity that did not come to its end, by what is known of its robot."""
    if not item.get("status"):
        return (
            "The operator has not looked at it. Does it run, and does it serve this namespace (watchNamespaces)?\n"
            "  kubectl get pods -A -l app.kubernetes.io/name=kuberpa"
        )
    unmet = [
        f"  {condition['type']}: {condition.get('reason', '')}: {condition.get('message', '')}"
        for condition in robot.get("status", {}).get("conditions", [])
        if condition.get("status") != "True" and condition["type"] in {"Ready", "AgentConnected", "PackagesReady"}
    ]
    pod = f"  kubectl -n {namespace} describe pod -l app.kubernetes.io/name=kuberpa-robot"
    if not unmet:
        return f"The robot is ready. Look at its agent:\n{pod}"
    return "\n".join(("The robot is not ready:", *unmet, "Look at its pod:", pod))


async def attempt(cluster: Cluster, trial: Trial, say: Callable[[str], None]) -> bool:
    """Run the trial; whether the activity has succeeded. Nothing of it stays."""
    await cluster.create(ROBOTS, trial.namespace, trial.robot)
    say(f"Robot {trial.namespace}/{trial.name} is created")
    try:
        item = await cluster.create(ACTIVITY_ITEMS, trial.namespace, trial.item)
        say(f"ActivityItem {trial.namespace}/{trial.name} is created: it runs os.command echo on that robot")
        try:
            async with asyncio.timeout(trial.timeout_seconds):
                item = await _until_final(cluster, trial, item, say)
        except TimeoutError:
            item = await cluster.get(ACTIVITY_ITEMS, trial.namespace, trial.name)
        return await _judge(cluster, trial, item, say)
    finally:
        await _remove(cluster, trial, say)


async def _judge(cluster: Cluster, trial: Trial, item: Body, say: Callable[[str], None]) -> bool:
    status = item.get("status", {})
    if status.get("phase") == "Succeeded":
        say("The activity has run, and its result is recorded: this installation works")
        return True
    if status.get("phase") in FINAL_PHASES:
        say(f"FAILED: the activity has ended, but not well: {describe(item)}")
        return False
    robot = await cluster.get(ROBOTS, trial.namespace, trial.name)
    say(f"FAILED: after {trial.timeout_seconds:g} s the activity is {describe(item)}")
    say(advise(robot, item, trial.namespace))
    return False


async def _until_final(cluster: Cluster, trial: Trial, item: Body, say: Callable[[str], None]) -> Body:
    said = ""
    while True:
        if (where := describe(item)) != said:
            said = where
            say(f"  {where}")
        if item.get("status", {}).get("phase") in FINAL_PHASES:
            return item
        item = await _next(cluster, trial, item)


async def _next(cluster: Cluster, trial: Trial, item: Body) -> Body:
    """The item after its next change."""
    version = item["metadata"]["resourceVersion"]
    try:
        watch = cluster.watch(ACTIVITY_ITEMS, version, trial.namespace, fieldSelector=f"metadata.name={trial.name}")
        async for kind, body in watch:
            if kind == "DELETED":
                raise ApiError("somebody has deleted the activity")
            if kind != "BOOKMARK":
                return body
    except (GoneError, UnavailableError):
        await asyncio.sleep(RETRY_SECONDS)
    return await cluster.get(ACTIVITY_ITEMS, trial.namespace, trial.name)


async def _remove(cluster: Cluster, trial: Trial, say: Callable[[str], None]) -> None:
    for resource in (ACTIVITY_ITEMS, ROBOTS):
        try:
            with suppress(NotFoundError):
                await cluster.delete(resource, trial.namespace, trial.name)
        except ApiError as error:
            say(f"{resource.kind} {trial.namespace}/{trial.name} could not be deleted: {error}")


async def run(trial: Trial) -> int:
    """Connect and try; the exit code."""
    async with await Cluster.connect() as cluster:
        try:
            return 0 if await attempt(cluster, trial, _say) else 1
        except ApiError as error:
            _say(f"FAILED: {error}")
            return 1


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  what people read


def main(argv: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 it works, 1 it does not, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m kuberpa_operator.trial", description=__doc__)
    parser.add_argument("--namespace", required=True, help="where the robot works; the operator must serve it")
    parser.add_argument("--image", default="", help="image of the robot; default: that of the kind Robot")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for all of it (default 300)")
    arguments = parser.parse_args(argv)
    name = f"kuberpa-test-{uuid.uuid4().hex[:8]}"
    return asyncio.run(run(Trial(arguments.namespace, name, arguments.image, arguments.timeout)))


if __name__ == "__main__":
    sys.exit(main())
