"""Throw-away clusters of real parts for tests.

    with running(folder, {Layer.API, Layer.CHARTS}) as cluster:
        cluster.kubectl("get", "robots")

The layers are those of `kuberpa up`, without waiting for the disk. Everything a cluster starts ends with the block, and
with the test process even when that is killed.
"""

import asyncio
import json
import os
import random
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import kubernetes

from kuberpa_cli.embedded import files, ports
from kuberpa_cli.embedded import paths as places
from kuberpa_cli.embedded.binaries import Target
from kuberpa_cli.embedded.cluster import EmbeddedCluster, Layer, Options, erase, prepare
from kuberpa_cli.embedded.parts import postgres
from kuberpa_cli.embedded.site import Site

REPOSITORY = Path(__file__).parents[2]
T = TypeVar("T")


class PrintedReport:
    """Says on standard output what is being built: the first run of a machine takes minutes."""

    def say(self, message: str) -> None:
        print(message, flush=True)

    def started(self, target: Target, packages: int) -> None:
        print(f"building {target.name}: {packages} packages, about {target.usual_seconds} s", flush=True)

    def compiled(self, packages: int) -> None:
        pass

    def finished(self, target: Target, seconds: float) -> None:
        print(f"built {target.name} in {seconds:.0f} s", flush=True)


@dataclass(frozen=True)
class Cluster:
    """A running cluster: how to reach it."""

    site: Site
    embedded: EmbeddedCluster
    loop: "BackgroundLoop"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.site.paths.admin_kubeconfig

    @property
    def panel_url(self) -> str:
        return self.site.panel_url

    @property
    def postgres_url(self) -> str:
        """The database `kuberpa` as the role `kuberpa`, which owns it."""
        return postgres.url(self.site.paths)

    @property
    def postgres_admin_url(self) -> str:
        """The superuser, for tests that make databases of their own."""
        return postgres.url(self.site.paths, role="postgres", database="postgres")

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """What kubectl prints; raises AssertionError with its words when it fails."""
        run = self.try_kubectl(*arguments, stdin=stdin, kubeconfig=kubeconfig)
        if run.returncode:
            raise AssertionError(f"kubectl {' '.join(map(str, arguments))}: {run.stderr.strip()}")
        return run.stdout

    def try_kubectl(
        self, *arguments: str | Path, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """As `kubectl`, for calls that should be refused."""
        return subprocess.run(
            [self.site.binaries["kubectl"], *arguments],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(kubeconfig or self.kubeconfig)},
        )

    def apply(self, *manifests: str) -> str:
        """Server-side apply of YAML documents."""
        return self.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(manifests))

    def client(self) -> kubernetes.client.ApiClient:
        """A synchronous API client of the administrator; use it as a context manager."""
        client: kubernetes.client.ApiClient = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(self.kubeconfig)
        )
        return client

    async def aio_client(self) -> Any:
        """An asyncio API client of the administrator; use it as an asynchronous context manager."""
        import kubernetes.aio  # noqa: PLC0415 - a second and a half that few tests need

        return await kubernetes.aio.config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(self.kubeconfig)
        )

    def token_kubeconfig(self, namespace: str, account: str) -> Path:
        """A kubeconfig of a ServiceAccount, for tests of what an account may do."""
        from kuberpa_cli.embedded import kubeconfig  # noqa: PLC0415

        token = self.site.paths.tokens / f"{namespace}.{account}"
        files.write(token, self.kubectl("create", "token", account, "-n", namespace).strip())
        path = self.site.kubeconfig(f"{namespace}.{account}")
        return kubeconfig.write_for_token(path, self.site.server, self.site.pki, token)


class BackgroundLoop:
    """An event loop in a thread that lives as long as the cluster: its parts die with the thread that started them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def cluster_paths(folder: Path) -> places.Paths:
    """State in `folder`; the cache of binaries is the user's."""
    return replace(places.from_environment(), state=folder / "state")


@contextmanager
def running(folder: Path, layers: AbstractSet[Layer], **options: Any) -> Iterator[Cluster]:
    """Start a cluster with these layers, and end and forget it afterwards."""
    paths = cluster_paths(folder)
    paths.prepare()
    # not the port that people know: clusters of other test runs would take it for theirs between choice and use
    files.write(paths.ports_file, json.dumps({"panel": random.choice(ports.RANGE)}))
    site = prepare(paths, PrintedReport(), datetime.now(UTC), durable=False)  # noqa: TID251 - the tests' clock
    loop = BackgroundLoop()
    chosen = Options(layers=frozenset(layers), durable=False, **options)
    embedded = EmbeddedCluster(site, chosen, lambda _: None)
    try:
        try:
            loop.run(embedded.start())
            yield Cluster(site, embedded, loop)
        finally:
            loop.run(embedded.stop())
    finally:
        loop.close()
        erase(paths)
