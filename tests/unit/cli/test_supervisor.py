"""The supervisor with small shell programs as parts."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kuberpa_cli.embedded.part import Condition, Part, Probe, State, Step, Unit
from kuberpa_cli.embedded.supervisor import PartFailedError, Supervisor


@dataclass
class Heard:
    conditions: list[Condition] = field(default_factory=list)

    def __call__(self, condition: Condition) -> None:
        self.conditions.append(condition)

    def order(self, state: State) -> list[str]:
        return [c.name for c in self.conditions if c.state is state]


def file_exists(path: Path) -> Probe:
    async def probe() -> str | None:
        return None if path.exists() else f"{path} is missing"  # noqa: ASYNC240

    return probe


Shell = Callable[..., Part]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    def make(name: str, program: str, needs: tuple[str, ...] = (), **more: object) -> Part:
        ready = tmp_path / f"{name}.ready"
        command = ("/bin/sh", "-c", program.replace("READY", f"touch {ready}"))
        return Part(name, command, tmp_path, needs, probe=file_exists(ready), **more)  # type: ignore[arg-type]

    return make


def supervise(folder: Path, units: list[Unit], heard: Heard) -> Supervisor:
    return Supervisor(units, folder, {"PATH": os.environ["PATH"]}, heard)


async def until(look: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not look():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.01)


async def test_a_part_starts_when_all_it_needs_is_ready_and_ends_before_that(tmp_path: Path, shell: Shell) -> None:
    heard = Heard()
    done: list[str] = []

    async def step() -> None:
        done.append("step")

    units: list[Unit] = [
        shell("last", "READY; sleep 100", ("step",)),
        Step("step", ("first",), step),
        shell("first", "READY; sleep 100"),
    ]
    supervisor = supervise(tmp_path, units, heard)
    await supervisor.start()
    assert heard.order(State.READY) == ["first", "step", "last"]
    await supervisor.stop()
    assert heard.order(State.STOPPED) == ["last", "first"]


async def test_a_killed_part_is_started_again_and_that_is_told(tmp_path: Path, shell: Shell) -> None:
    heard = Heard()
    supervisor = supervise(tmp_path, [shell("part", "READY; sleep 100")], heard)
    await supervisor.start()
    pid = supervisor.conditions["part"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.conditions["part"].restarts == 1 and heard.conditions[-1].state is State.READY)
    told = next(c for c in heard.conditions if c.state is State.RESTARTING)
    assert told.message.startswith("was killed by signal 9; starting again in ")
    assert supervisor.conditions["part"].pid != pid
    await supervisor.stop()


async def test_a_part_that_never_comes_up_fails_the_start_with_the_end_of_its_log(tmp_path: Path, shell: Shell) -> None:
    supervisor = supervise(tmp_path, [shell("part", "echo the port is taken; exit 7")], Heard())
    with pytest.raises(PartFailedError, match=r"part ended with exit code 7(.|\n)*the port is taken"):
        await supervisor.start()
    await supervisor.stop()


async def test_a_part_that_is_not_ready_in_time_says_why(tmp_path: Path, shell: Shell) -> None:
    supervisor = supervise(tmp_path, [shell("part", "sleep 100", ready_seconds=0.3)], Heard())
    with pytest.raises(PartFailedError, match=r"not ready within 0.3 s: .*part.ready is missing"):
        await supervisor.start()
    await supervisor.stop()


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    supervisor = supervise(tmp_path, [Part("part", ("/no/such/program",), tmp_path)], Heard())
    with pytest.raises(PartFailedError, match="/no/such/program"):
        await supervisor.start()
    await supervisor.stop()


async def test_a_part_that_ignores_sigterm_is_killed_with_its_group(tmp_path: Path, shell: Shell) -> None:
    program = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/child; READY; while :; do sleep 1; done"
    supervisor = supervise(tmp_path, [shell("part", program, stop_seconds=0.2)], Heard())
    await supervisor.start()
    child = int((tmp_path / "child").read_text())
    await supervisor.stop()
    await until(lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text())


async def test_a_failing_step_fails_the_start(tmp_path: Path, shell: Shell) -> None:
    async def step() -> None:
        raise PartFailedError("the chart is broken")

    supervisor = supervise(tmp_path, [Step("step", (), step), shell("part", "READY; sleep 100")], Heard())
    with pytest.raises(PartFailedError, match="the chart is broken"):
        await supervisor.start()
    await supervisor.stop()
