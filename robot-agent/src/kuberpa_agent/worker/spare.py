"""A shim started ahead, where there is no fork: it waits for a run directory on stdin, supervises that run, and ends.

For a robot's packages it has started the payload too, which has imported them and waits in turn. `--describe FILE`
writes what there is to run instead.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

from kuberpa_agent.platform import Tree, selected
from kuberpa_agent.platform.base import Command
from kuberpa_agent.sdk import running
from kuberpa_agent.worker import command, discovery, rundir
from kuberpa_agent.worker.shim import Shim, Starting

BOOT_VARIABLE: Final = "KUBERPA_BOOT"


class WaitingPayload:
    """A Python process that has imported the definitions and reads the run directory from its stdin."""

    def __init__(self, *, builtin: bool, group: str) -> None:
        read_end, self._input = os.pipe()
        argv = [sys.executable, "-I", "-u", "-X", "utf8", *_module("kuberpa_agent.worker.payload")]
        waiting = Command(
            argv=[*argv, "--builtin"] if builtin else argv, cwd=str(Path.cwd()), env=dict(os.environ), stdin=read_end
        )
        self.tree: Tree = selected().spawn(waiting, control=True, group=group)
        os.close(read_end)

    def begin(self, directory: Path) -> Tree:
        """Let it run the job."""
        os.write(self._input, f"{directory}\n".encode())
        os.close(self._input)
        return self.tree


def serve(*, builtin: bool) -> None:
    """Wait for a run, which is the only one; none when the agent ends first."""
    platform = selected()
    platform.become_shim()
    waiting = None if builtin else WaitingPayload(builtin=False, group=platform.make_group(f"kuberpa-{os.getpid()}"))
    directory_name = sys.stdin.readline().strip()
    if not directory_name:
        if waiting is not None:
            waiting.tree.kill(frozenset(), 5.0)
        return
    sys.stdout.write("taken\n")
    sys.stdout.flush()
    directory = Path(directory_name)
    supervise(directory, rundir.read_json(directory / rundir.JOB), waiting)


def supervise(directory: Path, job: dict[str, Any], waiting: WaitingPayload | None) -> None:
    """Be the shim of a run."""
    platform = selected()
    os.environ.update(job["env"])
    os.environ[running.STOP_FILE_VARIABLE] = str(directory / rundir.STOP)
    platform.mark(job["run"])
    Shim(directory, job, platform).run(lambda: _starting(job, directory, waiting))


def _module(name: str) -> list[str]:
    """How Python is told to run a module: where nothing is installed (see remote.boot) by the bundle's own means."""
    boot = os.environ.get(BOOT_VARIABLE)
    return [boot, name] if boot else ["-m", name]


def _starting(job: dict[str, Any], directory: Path, waiting: WaitingPayload | None) -> Starting:
    platform = selected()
    if job["kind"] == "command":
        plan = command.plan(job["start"]["def"], job, directory, platform.default_encoding())
        return Starting(
            lambda group: platform.spawn(plan.command, control=False, group=group),
            plan.encoding,
            is_command=True,
            check=plan.check,
        )

    def begin(group: str) -> Tree:
        ready = waiting or WaitingPayload(builtin=job["builtin"], group=group)
        return ready.begin(directory)

    return Starting(begin, "utf-8", is_command=False)


def describe(file: Path, *, builtin: bool) -> None:
    """Write the definitions and what failed to import."""
    errors = discovery.load(builtin=builtin)
    rundir.write_json(file, {"definitions": discovery.describe(builtin=builtin), "errors": errors})


def main() -> None:
    """`spare [--builtin] [--describe FILE]`."""
    builtin = "--builtin" in sys.argv
    if "--describe" in sys.argv:
        describe(Path(sys.argv[sys.argv.index("--describe") + 1]), builtin=builtin)
    else:
        serve(builtin=builtin)


if __name__ == "__main__":
    main()
