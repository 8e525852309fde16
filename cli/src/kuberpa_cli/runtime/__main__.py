import argparse
import asyncio
import logging
import os
import shlex
import signal
import sys
from pathlib import Path

from kuberpa.client import Cluster
from kuberpa_cli.embedded import paths as places
from kuberpa_cli.embedded.cluster import robot_uids
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.runtime.executors import Executor, Processes, Simulated
from kuberpa_cli.runtime.kubelet import Kubelet
from kuberpa_cli.runtime.records import Records
from kuberpa_cli.runtime.runner import Services
from kuberpa_cli.runtime.settings import Settings

log = logging.getLogger("kuberpa.runtime")


def main() -> int:
    """Run until SIGTERM; the embedded cluster's supervisor starts and stops this."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        asyncio.run(run(parse(sys.argv[1:])))
    except KuberpaError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return error.exit_code
    return 0


def parse(arguments: list[str]) -> Settings:
    """Settings from the command line and KUBERPA_STATE_DIR."""
    parser = argparse.ArgumentParser(prog="python -m kuberpa_cli.runtime", description="Runs robot pods as processes.")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--ready-file", type=Path, required=True, help="touched once the pods are known")
    parser.add_argument("--agents", choices=("process", "simulated"), default="process")
    parser.add_argument("--agent-command", required=True, help="how to run the agent, or the simulator")
    parser.add_argument("--first-backoff-seconds", type=float, default=1.0, help="a kubelet's is 10")
    chosen = parser.parse_args(arguments)
    paths = places.from_environment()
    return Settings(
        paths=paths,
        kubeconfig=chosen.kubeconfig,
        ready_file=chosen.ready_file,
        user_ids=robot_uids(paths),
        simulated=chosen.agents == "simulated",
        agent_command=tuple(shlex.split(chosen.agent_command)),
        first_backoff_seconds=chosen.first_backoff_seconds,
    )


async def run(settings: Settings) -> None:
    """Serve until a signal."""
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    executor = make_executor(settings)
    records = Records(settings.paths.state / "runtime", settings.user_ids)
    settings.paths.pods.mkdir(mode=0o711, exist_ok=True)
    settings.paths.pods.chmod(0o711)
    async with await Cluster.connect(settings.kubeconfig) as cluster:
        await Kubelet(Services(settings, cluster, executor, records)).run(stop)


def make_executor(settings: Settings) -> Executor:
    """Agents as processes or simulated."""
    paths = settings.paths
    if not settings.simulated:
        return Processes(settings.agent_command, paths.cluster_id, privileged=settings.user_ids is not None)
    user_id = settings.user_ids.start if settings.user_ids else None
    folder = paths.shared / "simulator"
    folder.mkdir(mode=0o700, exist_ok=True)
    if user_id is not None:
        os.chown(folder, user_id, user_id)
    return Simulated(settings.agent_command, paths.cluster_id, user_id, folder, paths.logs / "simulator.log")


if __name__ == "__main__":
    sys.exit(main())
