"""The embedded cluster as a whole: which parts there are, in which order, and how they come up and go."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from kuberpa.processlog import AUDIENCE
from kuberpa_cli.embedded import binaries, install, kubeconfig, pki, ports, tokens, uids
from kuberpa_cli.embedded.guardian import Guardian, tests_for
from kuberpa_cli.embedded.kubectl import Tool
from kuberpa_cli.embedded.part import Condition, Step, Unit, nothing
from kuberpa_cli.embedded.parts import controlplane, kwok, postgres, programs
from kuberpa_cli.embedded.paths import Paths
from kuberpa_cli.embedded.processes import CLUSTER_MARKER, find, sweep
from kuberpa_cli.embedded.site import PORTS, Site
from kuberpa_cli.embedded.supervisor import Supervisor, marked_environment
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.runtime import agents

LOCAL_MANIFEST = Path(__file__).parent / "manifests" / "local.yaml"
GUARDIAN_CHECK_SECONDS = 1.0


class Layer(StrEnum):
    """How much of the cluster runs; `kuberpa up` runs all of it, tests as much as they need."""

    API = "etcd and the API server"
    NODES = "controllers, scheduler and nodes"
    DATABASE = "PostgreSQL"
    CHARTS = "CRDs, accounts, roles and policies of the Helm charts"
    RUNTIME = "the local runtime"
    PROGRAMS = "operator and panel"


@dataclass(frozen=True)
class Options:
    """What the user may choose about an embedded cluster."""

    agents: str = "process"
    agent_command: tuple[str, ...] = ()
    """Run instead of the robot agent; for work on the runtime itself."""
    operators: int = 1
    durable: bool = True
    layers: frozenset[Layer] = frozenset(Layer)


def prepare(paths: Paths, report: binaries.Report, now: datetime, *, durable: bool = True) -> Site:
    """Folders, binaries (built when the cache lacks them), certificates, ports and kubeconfigs."""
    built = binaries.ensure(paths.cache, report)
    paths.prepare()
    certificates = pki.ensure(paths.pki, now)
    site = Site(paths, certificates, ports.allocate(paths.ports_file, PORTS), built, durable)
    for client in pki.CLIENTS:
        kubeconfig.write_for_certificate(site.kubeconfig(client.file), site.server, certificates, client.file)
    for account in accounts(site):
        kubeconfig.write_for_token(site.kubeconfig(account.name), site.server, certificates, account.file)
    _link_commands(paths, built)
    return site


def _link_commands(paths: Paths, built: Mapping[str, Path]) -> None:
    """What `kuberpa env` puts on PATH; `kubectl-rpa` makes this program a plugin of kubectl."""
    own = programs.script("kuberpa")
    commands = {"kubectl": built["kubectl"], "helm": built["helm"], "kuberpa": own, "kubectl-rpa": own}
    for name, target in commands.items():
        link = paths.bin / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def accounts(site: Site) -> tuple[tokens.Account, ...]:
    """The chart's accounts that local processes run under."""
    return tuple(
        tokens.Account(install.NAMESPACE, name, site.paths.tokens / name)
        for name in (programs.OPERATOR_ACCOUNT, programs.PANEL_ACCOUNT)
    )


def all_tokens(site: Site) -> tuple[tokens.Account, ...]:
    """Those accounts' tokens for the API server, and the operator's for the panel."""
    file = programs.panel_token(site)
    return *accounts(site), tokens.Account(install.NAMESPACE, programs.OPERATOR_ACCOUNT, file, AUDIENCE)


def units(site: Site, options: Options) -> list[Unit]:
    """The cluster's parts and steps; the supervisor orders them by their needs."""
    return [unit for layer, make in UNITS.items() if layer in options.layers for unit in make(site, options)]


def _api(site: Site, _: Options) -> list[Unit]:
    async def add_nodes() -> None:
        await _kubectl(site).apply(LOCAL_MANIFEST.read_text())

    return [controlplane.etcd(site), controlplane.apiserver(site), Step("nodes", ("kube-apiserver",), add_nodes)]


def _nodes(site: Site, _: Options) -> list[Unit]:
    return [controlplane.controller_manager(site), controlplane.scheduler(site), kwok.kwok(site)]


def _database(site: Site, _: Options) -> list[Unit]:
    return [postgres.postgres(site)]


def _charts(site: Site, _: Options) -> list[Unit]:
    helm = Tool(site.binaries["helm"], site.paths.admin_kubeconfig)

    async def apply() -> None:
        await install.apply_charts(helm, _kubectl(site), install.Charts.find(), install.EMBEDDED_VALUES)

    async def issue() -> None:
        await asyncio.gather(*(tokens.issue(_kubectl(site), account) for account in all_tokens(site)))

    return [Step("charts", ("nodes",), apply), Step("tokens", ("charts",), issue)]


def _runtime(site: Site, options: Options) -> list[Unit]:
    """The local runtime, after the agent's environment has been built."""
    if options.agent_command:
        return [Step("agent", (), nothing), programs.runtime(site, options.agents, options.agent_command)]
    environment = agents.plan(site.paths, agents.find_workspace())
    module = "kuberpa_agent.simulator" if options.agents == "simulated" else "kuberpa_agent"

    async def build() -> None:
        await asyncio.to_thread(environment.ensure)

    command = (environment.python, "-m", module)
    return [Step("agent", (), build), programs.runtime(site, options.agents, command)]


def _programs(site: Site, options: Options) -> list[Unit]:
    operators = [programs.operator(site, number) for number in range(1, options.operators + 1)]
    return [*operators, programs.panel(site)]


UNITS: Mapping[Layer, Callable[[Site, Options], list[Unit]]] = {
    Layer.API: _api,
    Layer.NODES: _nodes,
    Layer.DATABASE: _database,
    Layer.CHARTS: _charts,
    Layer.RUNTIME: _runtime,
    Layer.PROGRAMS: _programs,
}


def _kubectl(site: Site) -> Tool:
    return Tool(site.binaries["kubectl"], site.paths.admin_kubeconfig)


class EmbeddedCluster:
    """One run of the cluster, between `start` and `stop`."""

    def __init__(
        self,
        site: Site,
        options: Options,
        listener: Callable[[Condition], None],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.site = site
        self._options = options
        self._say = say
        self.uids = robot_uids(site.paths)
        self._environment = marked_environment(CLUSTER_MARKER, site.paths.cluster_id)
        self.supervisor = Supervisor(units(site, options), site.paths.logs, self._environment, listener)
        self._guardian: Guardian | None = None
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring everything up; raises KuberpaError when a part cannot, after which `stop` is still due."""
        left = sweep(tests_for(self.site.paths.cluster_id, self.uids))
        if left:
            raise KuberpaError(f"processes of an earlier run cannot be ended: {left}")
        self._guardian = self._new_guardian()
        self._background.append(asyncio.create_task(self._watch_guardian()))
        await self.supervisor.start()
        if Layer.CHARTS in self._options.layers:
            fresh = tokens.keep_fresh(_kubectl(self.site), all_tokens(self.site), self._say)
            self._background.append(asyncio.create_task(fresh))

    async def stop(self) -> None:
        """Stop the parts in order, then have the guardian end whatever is left."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.supervisor.stop()
        if self._guardian and not await asyncio.to_thread(self._guardian.finish):
            left = [process.pid for process in find(tests_for(self.site.paths.cluster_id, self.uids))]
            raise KuberpaError(f"these processes could not be ended: {left}")

    @property
    def guardian_pid(self) -> int | None:
        """The process that ends the cluster should this one die."""
        return self._guardian.pid if self._guardian and self._guardian.running else None

    def _new_guardian(self) -> Guardian:
        return Guardian(self.site.paths.cluster_id, self.uids, self._environment)

    async def _watch_guardian(self) -> None:
        while True:
            await asyncio.sleep(GUARDIAN_CHECK_SECONDS)
            if self._guardian and not self._guardian.running:
                self._guardian.finish()
                self._guardian = self._new_guardian()


def robot_uids(paths: Paths) -> range | None:
    """The user IDs of this cluster's robots; None when robots run as the user who started it."""
    return uids.block(paths.shared_root, paths.cluster_id) if paths.shared_root else None


def erase(paths: Paths) -> None:
    """Forget everything about the cluster; nothing of it may run."""
    for folder in (paths.state, paths.shared):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
