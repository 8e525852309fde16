"""One robot pod from its binding to its end: what a kubelet's pod worker does."""

import asyncio
import logging
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from kuberpa.client import PODS, SECRETS, SERVICE_ACCOUNTS, ApiError, Cluster, NotFoundError, Resource, UnavailableError
from kuberpa_cli import clock
from kuberpa_cli.embedded.child import User
from kuberpa_cli.runtime import pod as pods
from kuberpa_cli.runtime import volumes
from kuberpa_cli.runtime.backoff import Backoff
from kuberpa_cli.runtime.environment import resolve
from kuberpa_cli.runtime.executors import Agent, Executor, Launch
from kuberpa_cli.runtime.pod import ContainerState, Phase, Pod, UnsupportedError
from kuberpa_cli.runtime.records import Records
from kuberpa_cli.runtime.settings import Settings
from kuberpa_cli.runtime.volumes import Home, Issued, Token

log = logging.getLogger("kuberpa.runtime")

RETRY_SECONDS = 2.0
CONFIG_MAPS = Resource("configmaps", "ConfigMap", "", "v1")
_FETCHED = {"secrets": SECRETS, "configmaps": CONFIG_MAPS}


@dataclass(frozen=True)
class Services:
    """What all runners share."""

    settings: Settings
    cluster: Cluster
    executor: Executor
    records: Records


class Runner:
    """Keeps one pod's agent running until the pod is deleted or the runtime stops."""

    def __init__(self, pod: Pod, services: Services) -> None:
        self._pod = pod
        self._services = services
        self._record = services.records.claim(pod.uid, pod.namespace, pod.name)
        user_id = services.executor.agent_user_id(self._record.user_id)
        user = User(user_id, user_id) if user_id is not None else None
        self._home = Home(services.settings.paths.pods / pod.uid, user)
        self._ending = asyncio.Event()
        self._gone = asyncio.Event()
        self._hurried = asyncio.Event()
        self._stopping = False
        self._refreshing: asyncio.Task[None] | None = None
        self._container = ContainerState(Phase.PENDING, pods.waiting("ContainerCreating"), pod.restart_count)
        if pod.deleting:
            self._ending.set()

    def update(self, pod: Pod) -> None:
        """A new version of the object."""
        if pod.deleting and pod.grace_seconds < self._pod.grace_seconds:
            self._hurried.set()
        self._pod = pod
        if pod.deleting:
            self._ending.set()

    def gone(self) -> None:
        """The object was removed by force: its agent has no time left."""
        self._gone.set()
        self._ending.set()

    def shut_down(self) -> None:
        """The runtime stops: end the agent, leave the object and the pod's folders as they are."""
        self._stopping = True
        self._ending.set()

    async def run(self) -> None:
        """Until nothing of the pod is left on this machine."""
        agent: Agent | None = None
        try:
            agent = await self._adopt()
            agent = await self._keep(agent)
        finally:
            if self._refreshing:
                self._refreshing.cancel()
        await self._end(agent)

    async def _keep(self, agent: Agent | None) -> Agent | None:
        """Start the agent again and again; what still runs when the end is asked for."""
        backoff = Backoff(self._services.settings.first_backoff_seconds)
        loop = asyncio.get_running_loop()
        while not self._ending.is_set() and not self._pod.finished:
            agent = agent or await self._start()
            if agent is None:
                await self._pause(RETRY_SECONDS)
                continue
            started, started_at = loop.time(), clock.now()
            code = await self._ended(agent)
            if code is None:
                return agent
            agent = None
            await self._sweep()
            backoff = backoff.after(loop.time() - started)
            await self._report_end(code, started_at, backoff.delay)
            if not self._pod.starts_again(code):
                await self._ending.wait()
            else:
                await self._pause(backoff.delay)
        return agent

    async def _adopt(self) -> Agent | None:
        """The agent of an earlier run of the runtime; what is left of one that cannot be adopted is ended."""
        agent = self._services.executor.adopt(self._record)
        if agent is None:
            if self._record.pid is not None:
                await self._sweep()
                self._container = replace(self._container, restarts=self._record.restarts + 1)
            return None
        try:
            await self._materialise()
        except (ApiError, UnsupportedError, OSError) as error:
            log.warning("volumes of %s/%s not renewed: %s", self._pod.namespace, self._pod.name, error)
        self._container = ContainerState(
            Phase.RUNNING, {"running": {"startedAt": self._pod.started_at}}, self._record.restarts
        )
        log.info("adopted %s/%s, process %s", self._pod.namespace, self._pod.name, agent.identity.pid)
        return agent

    async def _start(self) -> Agent | None:
        """Volumes, environment, process; None when one of them was not to be had, which the status then says."""
        settings = self._services.settings
        try:
            folders, token = await self._materialise()
            env = await resolve(self._pod, folders, self._home.tree, self._fetch)
            logs = settings.paths.logs / "robots"
            logs.mkdir(mode=0o700, exist_ok=True)
            file = logs / f"{self._pod.namespace}_{self._pod.name}.log"
            launch = Launch(self._pod, self._record, self._home, env, token, file)
            agent = self._services.executor.start(launch)
        except (ApiError, UnsupportedError, OSError) as error:
            log.warning("%s/%s does not start: %s", self._pod.namespace, self._pod.name, error)
            reason = "CreateContainerConfigError"
            await self._report(replace(self._container, state=pods.waiting(reason, str(error))))
            return None
        self._record = self._record.started(agent.identity, self._container.restarts)
        self._services.records.save(self._record)
        await self._report(replace(self._container, phase=Phase.RUNNING, state=pods.running(clock.now())))
        return agent

    async def _ended(self, agent: Agent) -> int | None:
        """Its exit code; None when the end was asked for first."""
        waiting = asyncio.create_task(agent.wait())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            ending.cancel()

    async def _report_end(self, code: int, started: datetime, delay: float) -> None:
        ended = pods.terminated(code, started, clock.now())
        log.info("%s/%s ended with %s", self._pod.namespace, self._pod.name, code)
        if not self._pod.starts_again(code):
            phase = Phase.SUCCEEDED if code == 0 else Phase.FAILED
            await self._report(replace(self._container, phase=phase, state=ended))
            return
        message = f"back-off {delay:g}s restarting the agent"
        state = pods.waiting("CrashLoopBackOff", message) if delay else ended
        restarts = self._container.restarts + 1
        await self._report(ContainerState(Phase.RUNNING, state, restarts, last=ended))

    async def _end(self, agent: Agent | None) -> None:
        """SIGTERM, the grace period, SIGKILL for all of the pod's processes; only then the object goes."""
        if agent:
            await self._terminate(agent)
        await self._sweep()
        if self._stopping and not self._pod.deleting and not self._gone.is_set():
            return
        await self._delete_object()
        self._home.remove()
        self._services.records.forget(self._pod.uid)

    async def _terminate(self, agent: Agent) -> None:
        grace = 0.0 if self._gone.is_set() else self._pod.grace_seconds
        if self._stopping:
            grace = min(grace, self._services.settings.shutdown_seconds)
        if grace:
            agent.send(signal.SIGTERM)
        ended, gone = asyncio.create_task(agent.wait()), asyncio.create_task(self._gone.wait())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({ended, gone, hurried}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if hurried.done() and not ended.done() and not gone.done():
            # deleted once more, with less grace: that is counted from now
            await asyncio.wait({ended, gone}, timeout=self._pod.grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        agent.kill_group()
        for task in (ended, gone, hurried):
            task.cancel()

    async def _sweep(self) -> None:
        """Nothing of the pod may be left; said and tried again as long as something is."""
        while left := await asyncio.to_thread(self._services.executor.sweep, self._record):
            log.error("%s/%s: processes %s cannot be ended yet", self._pod.namespace, self._pod.name, left)

    async def _delete_object(self) -> None:
        while not self._gone.is_set():
            try:
                await self._services.cluster.delete(
                    PODS, self._pod.namespace, self._pod.name, uid=self._pod.uid, grace_seconds=0
                )
            except UnavailableError:
                await asyncio.sleep(RETRY_SECONDS)
            except ApiError:
                # Gone, or its name belongs to another pod by now.
                return
            else:
                return

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def _report(self, container: ContainerState) -> None:
        """Patch the status; waits out an API server that does not answer, for the agent runs on without it."""
        self._container = container
        while not self._gone.is_set():
            body = {"status": pods.status(self._pod, container, clock.now())}
            try:
                await self._services.cluster.merge(
                    PODS, self._pod.namespace, self._pod.name, body, subresource="status"
                )
            except UnavailableError:
                await asyncio.sleep(RETRY_SECONDS)
            except NotFoundError:
                return
            except ApiError:
                log.exception("the status of %s/%s was refused", self._pod.namespace, self._pod.name)
                return
            else:
                return

    async def _materialise(self) -> tuple[Mapping[str, Path], Path | None]:
        if self._refreshing:
            self._refreshing.cancel()
        folders, tokens = await volumes.materialise(self._pod, self._home, self._fetch, self._issue)
        self._refreshing = asyncio.create_task(self._refresh(tokens))
        return folders, next((token.file for token in tokens if token.audience), None)

    async def _refresh(self, tokens: Mapping[Token, Issued]) -> None:
        """Keep what the volumes hold as it is in the cluster."""
        home, say, sleep = self._home, log.warning, asyncio.sleep
        async with asyncio.TaskGroup() as both:
            both.create_task(
                volumes.keep_fresh(home, tokens, self._issue, say, now=lambda: clock.now().timestamp(), sleep=sleep)
            )
            both.create_task(volumes.keep_current(self._pod, home, self._fetch, say, sleep=sleep))

    async def _issue(self, token: Token) -> Issued:
        pod = self._pod
        reference = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
        spec: dict[str, Any] = {"expirationSeconds": token.seconds, "boundObjectRef": reference}
        if token.audience:
            spec["audiences"] = [token.audience]
        path = SERVICE_ACCOUNTS.path(pod.namespace, pod.service_account, "token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = (await self._services.cluster.request("POST", path, body=request))["status"]
        return Issued(answer["token"], clock.now(), datetime.fromisoformat(answer["expirationTimestamp"]))

    async def _fetch(self, plural: str, name: str) -> Mapping[str, Any]:
        return await self._services.cluster.get(_FETCHED[plural], self._pod.namespace, name)
