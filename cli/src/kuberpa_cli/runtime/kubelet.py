"""Watches robot pods bound to the local nodes and keeps one runner for each."""

import asyncio
import logging
from collections.abc import Iterable

from kuberpa.client import PODS, ApiError, Body
from kuberpa.names import LABEL_ROBOT
from kuberpa_cli.runtime.pod import Pod
from kuberpa_cli.runtime.runner import Runner, Services
from kuberpa_cli.runtime.volumes import Home

log = logging.getLogger("kuberpa.runtime")

RETRY_SECONDS = 1.0


class Kubelet:
    """The runtime's main loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._runners: dict[str, tuple[Runner, asyncio.Task[None]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then end every agent."""
        watching = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        stopping.cancel()
        for runner, _ in self._runners.values():
            runner.shut_down()
        await asyncio.gather(*(task for _, task in self._runners.values()), return_exceptions=True)

    async def _watch(self) -> None:
        """List, then watch; again from the list whenever the watch breaks."""
        while True:
            try:
                listing = await self._services.cluster.list_all(PODS, labelSelector=LABEL_ROBOT)
                await self._replace(listing.items)
                self._services.settings.ready_file.touch()
                watch = self._services.cluster.watch(PODS, listing.resource_version, labelSelector=LABEL_ROBOT)
                async for kind, body in watch:
                    self._see(kind, body)
            except ApiError as error:
                log.warning("the API server does not answer as it should, trying again: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _replace(self, bodies: Iterable[Body]) -> None:
        """The complete list: pods that are not in it are gone, with all they left behind."""
        listed = {body["metadata"]["uid"]: body for body in bodies}
        for uid, (runner, _) in self._runners.items():
            if uid not in listed:
                runner.gone()
        for record in self._services.records:
            if record.uid not in listed and record.uid not in self._runners:
                log.info("clearing up after %s/%s, which is gone", record.namespace, record.name)
                await asyncio.to_thread(self._services.executor.sweep, record)
                Home(self._services.settings.paths.pods / record.uid, None).remove()
                self._services.records.forget(record.uid)
        for body in listed.values():
            self._see("MODIFIED", body)

    def _see(self, kind: str, body: Body) -> None:
        if kind == "BOOKMARK":
            return
        pod = Pod(body)
        if pod.node not in self._services.settings.nodes:
            return
        known = self._runners.get(pod.uid)
        if kind == "DELETED":
            if known:
                known[0].gone()
        elif known:
            known[0].update(pod)
        elif pod.deleting or not pod.finished:
            runner = Runner(pod, self._services)
            task = asyncio.create_task(self._guard(runner, pod), name=f"pod {pod.namespace}/{pod.name}")
            self._runners[pod.uid] = (runner, task)

    async def _guard(self, runner: Runner, pod: Pod) -> None:
        """A runner's edge: an error of one pod must not take the others down."""
        try:
            await runner.run()
        except Exception:
            log.exception("%s/%s: the runner failed", pod.namespace, pod.name)
        finally:
            self._runners.pop(pod.uid, None)
