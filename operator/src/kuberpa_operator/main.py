"""kuberpa-operator: decides which robot runs what, and when.

Own loops are started before kopf, which cancels every task born after it when it ends. On SIGTERM nothing more is
decided, the Lease is given back, and only then kopf stops.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, NoReturn

import kopf
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration
from kubernetes.config.config_exception import ConfigException

from kuberpa.client import ApiError, Cluster
from kuberpa.gsettings import Settings as Tuning
from kuberpa.processlog import ProcessLog
from kuberpa_operator import handlers, logs
from kuberpa_operator.adapters.candidacy import Candidacy, Won
from kuberpa_operator.adapters.clock import BootClock, SystemClock
from kuberpa_operator.adapters.cluster import FencedCluster
from kuberpa_operator.adapters.deliverer import deliver
from kuberpa_operator.adapters.elector import Elector
from kuberpa_operator.adapters.events import Recorder
from kuberpa_operator.adapters.metrics import Metrics
from kuberpa_operator.adapters.panels import PanelBook, watch_panels
from kuberpa_operator.adapters.room import Room
from kuberpa_operator.adapters.server import serve
from kuberpa_operator.adapters.state_metrics import StateCollector
from kuberpa_operator.adapters.tuning import watch_settings
from kuberpa_operator.core.dispatch import Dispatcher
from kuberpa_operator.core.pod import PodSettings
from kuberpa_operator.core.presence import Presence
from kuberpa_operator.gather import Gatherer
from kuberpa_operator.perform import Performer
from kuberpa_operator.queue import WorkQueue
from kuberpa_operator.reconciler import Reconciler
from kuberpa_operator.relist import Relister
from kuberpa_operator.report import Reporter
from kuberpa_operator.routing import Router
from kuberpa_operator.rush import Rush
from kuberpa_operator.settings import VARIABLES, Settings, SettingsError
from kuberpa_operator.world import World

TICK_SECONDS: Final = 1.0
TRIM_EVERY: Final = 5
DRAIN_SECONDS: Final = 2.0
GARBAGE_THRESHOLDS: Final = (10_000, 20, 100)
"""What is read makes no cycles: looking for some among all objects, once a second, cost 0.3 s each time."""
EXIT_LOST: Final = 3
"""Exit code of a replica that could not renew the Lease."""
log = logging.getLogger("kuberpa_operator")


@dataclass
class Operator:
    """The composition root: every part, connected."""

    settings: Settings
    cluster: Cluster
    clock: SystemClock = field(default_factory=SystemClock)
    metrics: Metrics = field(default_factory=Metrics)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    kopf_stop: asyncio.Event = field(default_factory=asyncio.Event)
    kopf_ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.panels = PanelBook(self.clock)
        self.world = World()
        self.candidacy = Candidacy(Cluster.connect, self._elector, self._won, _give_up)
        api = FencedCluster(self.cluster, self.candidacy.leads, Room(self.clock.monotonic))
        gatherer = Gatherer(
            self.world,
            Dispatcher(),
            Presence(self.settings.lost_after_seconds),
            self.panels,
            self.clock,
            PodSettings(self.settings.panel_url, self.settings.log_level),
            version("kuberpa-operator"),
        )
        recorder = Recorder(api, self.clock, self.settings.replica)
        self.router = Router(gatherer, WorkQueue(self.clock.now), ended=self.metrics.ended)
        self.cluster.observe = self.metrics.api.observe
        state = StateCollector(self.world, self.clock.now, lambda: self.router.leading)
        self.metrics.registry.register(state)
        performer = Performer(api, recorder, self.metrics, self.clock)
        self.rush = Rush(self.clock.monotonic)
        self.reconciler = Reconciler(self.router, api, performer, Reporter(api), self.metrics, self.rush)
        self.relister = Relister(
            api,
            self.router,
            self.panels,
            self.metrics,
            self.settings.namespace,
            self.settings.watch_namespaces,
        )
        self.loops: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Work until told to stop; the exit code."""
        runner = await serve(
            self.settings.listen_host, self.settings.listen_port, self.metrics.registry, self._unhealthy, self._unready
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        shutdown = asyncio.create_task(self._shut_down())
        delivery = asyncio.create_task(self._deliver(), name="log")
        await self._first_of(self.relister.wait_for_kinds())
        code = 0
        if not self.stop.is_set():
            self.loops = [
                asyncio.create_task(work, name=name)
                for name, work in (
                    ("reconciler", self.reconciler.run()),
                    ("relister", self.relister.run()),
                    ("ticker", self._tick()),
                    ("panels", self._follow_panels()),
                    ("settings", self._follow_settings()),
                    ("elector", self.candidacy.run()),
                )
            ]
            code = await self._watch()
        self.stop.set()
        await shutdown
        delivery.cancel()
        await runner.cleanup()
        await self.cluster.close()
        return code

    async def _deliver(self) -> None:
        """Bring what is logged to the panel, when there is a token for it."""
        if self.settings.panel_token_file is not None:
            own = ProcessLog()
            logging.getLogger().addHandler(own)
            await deliver(own, self.settings.panel_url, self.settings.panel_token_file, self.settings.replica)

    async def _first_of(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something unless told to stop first."""
        stop, task = asyncio.create_task(self.stop.wait()), asyncio.create_task(work)
        await asyncio.wait({stop, task}, return_when=asyncio.FIRST_COMPLETED)
        for one in (stop, task):
            one.cancel()

    async def _watch(self) -> int:
        """Run kopf until it is stopped or one of the own loops ends, which it never should."""
        handlers.quiet()
        existing = asyncio.all_tasks()
        namespaces = self.settings.watch_namespaces
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry(self._event, self.rush.calm, load_configuration),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            stop_flag=self.kopf_stop,
            ready_flag=self.kopf_ready,
        )
        for number in (signal.SIGTERM, signal.SIGINT):  # kopf has just put its own in place
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        for task in self.loops:
            task.add_done_callback(self._loop_ended)
        try:
            await kopf.run_tasks(tasks, ignored=existing)
        except Exception:  # the edge: whatever made kopf end, the process ends and is started anew
            log.exception("watching failed")
            return 1
        return 0 if self.stop.is_set() else 1

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if self.stop.is_set() or task.cancelled():
            return
        log.error("%s ended", task.get_name(), exc_info=task.exception())
        os._exit(1)

    async def _shut_down(self) -> None:
        await self.stop.wait()
        log.info("stopping")
        await self.reconciler.drain(DRAIN_SECONDS)
        await self.candidacy.release()
        self.kopf_stop.set()
        for task in self.loops:
            task.cancel()

    def _elector(self, cluster: Cluster, won: Won) -> Elector:
        # never the identity of a former process, which might still be there
        identity = f"{self.settings.replica}_{uuid.uuid4().hex[:8]}"
        return Elector(cluster, BootClock(), self.settings.namespace, identity, won, _give_up)

    async def _won(self) -> None:
        while True:
            try:
                await self.relister.everything()
            except ApiError as error:
                log.warning("the first list failed, trying again: %s", error)
                await asyncio.sleep(0.5)
            else:
                break
        gc.freeze()  # what was read so far stays, and need not be looked through for garbage
        self.metrics.leads.set(1)
        await self.router.lead()

    def _event(self, kind: str, type_: str | None, body: dict[str, Any]) -> None:
        self.metrics.watched.labels(kind).inc()
        if type_ is None:
            # kopf lists at its start and after a broken watch, and then says nothing of what is gone
            self.relister.ask(kind)
        self.router.observe(kind, body, deleted=type_ == "DELETED")

    async def _tick(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            count += 1
            if self.router.deciding.is_set():
                self.router.tick()
                if count % TRIM_EVERY == 0:
                    self.router.trim()
            self._gauge()

    def _gauge(self) -> None:
        self.metrics.queue_depth.set(len(self.router.queue))

    async def _follow_panels(self) -> None:
        while True:
            try:
                await watch_panels(self.cluster, self.settings.namespace, self.panels)
            except ApiError as error:
                log.warning("the panel's Leases cannot be read: %s", error)
            await asyncio.sleep(1)

    async def _follow_settings(self) -> None:
        while True:
            try:
                await watch_settings(self.cluster, self.settings.namespace, self._tune)
            except ApiError as error:
                log.warning("the settings cannot be read: %s", error)
            await asyncio.sleep(1)

    def _tune(self, settings: Tuning) -> None:
        wanted = settings.operator
        self.router.max_finished = wanted.max_finished_activities
        self.relister.every = float(wanted.relist_seconds)
        logging.getLogger().setLevel(str(wanted.log_level or self.settings.log_level))

    def _unhealthy(self) -> str | None:
        ended = [task.get_name() for task in self.loops if task.done()]
        return f"ended: {', '.join(ended)}" if ended else None

    def _unready(self) -> str | None:
        if not self.kopf_ready.is_set():
            return "not watching yet"
        return self._unhealthy()


def _give_up(why: str) -> NoReturn:
    log.critical("this replica gives up: %s", why)
    logging.shutdown()
    os._exit(EXIT_LOST)


async def load_configuration() -> Configuration:
    """The client configuration, read anew: tokens are rotated."""
    configuration, path = Configuration(), os.environ.get("KUBECONFIG")
    if path is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        kubernetes_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    else:
        await kubernetes_config.load_kube_config(path, client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration


async def run(settings: Settings) -> int:
    """Connect and work; the exit code."""
    return await Operator(settings, await Cluster.connect()).run()


def main() -> None:
    """The command `kuberpa-operator`."""
    width = max(map(len, VARIABLES))
    table = "\n".join(f"  {name:<{width}}  {meaning}" for name, meaning in VARIABLES.items())
    argparse.ArgumentParser(
        prog="kuberpa-operator",
        description="Decides which robot runs what, and when. All settings are environment variables.",
        epilog=f"environment:\n{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        settings = Settings.read()
    except SettingsError as error:
        sys.exit(f"kuberpa-operator: {error}")
    logs.configure(settings.log_level)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        code = asyncio.run(run(settings))
    except ConfigException as error:
        sys.exit(f"kuberpa-operator: no cluster: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
