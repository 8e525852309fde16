"""`python -m tests.support.serve API,NODES`: some layers of a cluster in the foreground, for work on one part."""

import asyncio
import signal
import sys
from datetime import UTC, datetime

from tests.support.cluster import PrintedReport

from kuberpa_cli.embedded import paths
from kuberpa_cli.embedded.cluster import EmbeddedCluster, Layer, Options, prepare


async def serve(layers: frozenset[Layer]) -> None:
    """Run until SIGINT or SIGTERM."""
    now = datetime.now(UTC)  # noqa: TID251 - this process's clock
    site = prepare(paths.from_environment(), PrintedReport(), now, durable=False)
    stop = asyncio.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    cluster = EmbeddedCluster(site, Options(layers=layers, durable=False), lambda seen: print(*vars(seen).values()))
    try:
        await cluster.start()
        print(f"export KUBECONFIG={site.paths.admin_kubeconfig} PATH={site.paths.bin}:$PATH", flush=True)
        await stop.wait()
    finally:
        await cluster.stop()


if __name__ == "__main__":
    asyncio.run(serve(frozenset(Layer[name] for name in sys.argv[1].split(","))))
