"""`kuberpa up` of an embedded cluster, in the foreground or detached, and its end."""

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from kuberpa_cli import clock, waiting
from kuberpa_cli.commands.screen import BuildScreen, StartScreen
from kuberpa_cli.embedded import binaries, files
from kuberpa_cli.embedded.cluster import EmbeddedCluster, Options, erase, prepare, robot_uids, units
from kuberpa_cli.embedded.guardian import tests_for
from kuberpa_cli.embedded.kubectl import Tool
from kuberpa_cli.embedded.part import Condition
from kuberpa_cli.embedded.parts import programs
from kuberpa_cli.embedded.paths import Paths
from kuberpa_cli.embedded.processes import Belongs, Identity, find, sweep
from kuberpa_cli.embedded.run import Run, RunPhase
from kuberpa_cli.errors import KuberpaError
from kuberpa_cli.quickstart import apply_scenario

DETACHED_SECONDS = 300.0
DOWN_SECONDS = 60.0


def running(paths: Paths) -> Run | None:
    """The run that is alive now."""
    run = Run.load(paths.status_file)
    return run if run and run.alive else None


def has_data(paths: Paths) -> bool:
    """Whether an earlier run left something that --fresh would erase."""
    return paths.etcd.exists() or paths.postgres.exists()


def start(paths: Paths, options: Options, console: Console, *, fresh: bool, apply: tuple[Path, ...]) -> None:
    """Run in the foreground until SIGINT or SIGTERM. Raises KuberpaError when a part cannot come up."""
    with _only_one(paths):
        if fresh:
            _end_leftovers(paths)
            erase(paths)
        with BuildScreen(console) as screen:
            site = prepare(paths, screen, clock.now(), durable=options.durable)
        names = [unit.name for unit in units(site, options)]
        identity = Identity.of(os.getpid())
        if identity is None:
            raise KuberpaError("/proc is not mounted: processes cannot be told apart")
        run = Run(identity.pid, identity.created, clock.now().isoformat(), panel=site.panel_url, server=site.server)
        with StartScreen(console, names) as start_screen:
            session = _Session(paths, run, start_screen)
            cluster = EmbeddedCluster(site, options, session.see, console.print)
            asyncio.run(_serve(cluster, session, console, apply))


def start_detached(paths: Paths, arguments: list[str], console: Console) -> None:
    """Start `kuberpa up` in a session of its own and wait until the cluster is ready."""
    with BuildScreen(console) as screen:
        binaries.ensure(paths.cache, screen)
    paths.prepare()
    log = paths.logs / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-m", "kuberpa_cli", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def settled() -> Run | None:
        run = Run.load(paths.status_file)
        ours = run is not None and run.pid == process.pid
        if process.poll() is not None:
            why = run.message if run and ours else ""
            raise KuberpaError(why or log.read_text(errors="replace").strip() or f"exit code {process.returncode}")
        return run if run and ours and run.phase is RunPhase.READY else None

    with console.status("Starting the cluster"):
        if waiting.until(settled, seconds=DETACHED_SECONDS) is None:
            raise KuberpaError(f"the cluster is not ready after {DETACHED_SECONDS:g} s; it goes on trying: see {log}")


def stop(paths: Paths) -> bool:
    """End the running cluster and whatever is left of one; whether there was anything to end."""
    run = running(paths)
    if run:
        run.supervisor.send(signal.SIGTERM)
        if not waiting.until(lambda: not run.alive, seconds=DOWN_SECONDS):
            run.supervisor.send(signal.SIGKILL)
            waiting.until(lambda: not run.alive, seconds=DOWN_SECONDS)
    left_over = bool(find(_tests(paths)))
    _end_leftovers(paths)
    return run is not None or left_over


def describe(run: Run, paths: Paths) -> str:
    """Where to look, for people."""
    program = _spelled(programs.script("kuberpa"))
    return "\n".join(
        (
            f"Panel       {run.panel}",
            f"API server  {run.server}",
            f"Logs        {paths.logs}",
            "",
            f'Use it:     eval "$({program} env)"; kubectl get robots,activityitems,schedules',
            f"Look:       {program} status",
            f"End it:     {program} down",
        )
    )


def _spelled(program: Path) -> str:
    """How to call this program from the present shell: by name only where that finds it."""
    if (found := shutil.which(program.name)) and Path(found).samefile(program):
        return program.name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


class _Session:
    """Keeps the status file and the screen up to date."""

    def __init__(self, paths: Paths, run: Run, screen: StartScreen) -> None:
        self._file = paths.status_file
        self._screen = screen
        self.paths = paths
        self.run = run
        run.save(self._file)

    def see(self, condition: Condition) -> None:
        """A part changed."""
        self.run = self.run.with_part(condition)
        self.run.save(self._file)
        self._screen.show(condition)

    def enter(self, phase: RunPhase, message: str = "") -> None:
        """The cluster as a whole changed."""
        self.run = replace(self.run, phase=phase, message=message)
        self.run.save(self._file)

    def settle(self) -> None:
        """The start is over."""
        self._screen.settle()


async def _serve(cluster: EmbeddedCluster, session: _Session, console: Console, apply: tuple[Path, ...]) -> None:
    stop_asked = asyncio.Event()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sig, stop_asked.set)
    failed = False
    try:
        if await _start_unless(stop_asked, cluster):
            kubectl = Tool(cluster.site.binaries["kubectl"], cluster.site.paths.admin_kubeconfig)
            session.settle()
            for path in apply:
                packages = cluster.site.paths.packages
                await apply_scenario(path, kubectl, packages, cluster.site.panel_url, partial(_say, console))
            session.enter(RunPhase.READY)
            console.print("\n[green]The cluster is ready.[/] Ctrl-C ends it.\n")
            console.print(describe(session.run, session.paths), highlight=False)
            await stop_asked.wait()
    except KuberpaError as error:
        failed = True
        session.enter(RunPhase.FAILED, str(error))
        raise
    finally:
        session.settle()
        if not failed:
            session.enter(RunPhase.STOPPING)
            console.print("Ending the cluster")
        await cluster.stop()
        if not failed:
            session.enter(RunPhase.STOPPED)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)


async def _start_unless(stop_asked: asyncio.Event, cluster: EmbeddedCluster) -> bool:
    """Start; False when the end was asked for meanwhile."""
    starting = asyncio.create_task(cluster.start())
    stopping = asyncio.create_task(stop_asked.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        return not stop_asked.is_set()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


@contextmanager
def _only_one(paths: Paths) -> Iterator[None]:
    """One supervisor for each state folder; the lock is elsewhere, because --fresh removes the folder."""

    def refuse() -> None:
        raise KuberpaError("another `kuberpa up` is starting or stopping this cluster: see `kuberpa status`")

    with files.locked(paths.cache / "locks" / f"{paths.cluster_id}.lock", on_wait=refuse):
        yield


def _end_leftovers(paths: Paths) -> None:
    if left := sweep(_tests(paths)):
        raise KuberpaError(f"these processes of the cluster could not be ended: {', '.join(map(str, left))}")


def _tests(paths: Paths) -> tuple[Belongs, ...]:
    return tests_for(paths.cluster_id, robot_uids(paths) if paths.shared.exists() else None)
