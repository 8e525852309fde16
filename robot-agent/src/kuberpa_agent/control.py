import asyncio
import contextlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from kuberpa import wire
from kuberpa.robot import RobotState
from kuberpa_agent.runs import Event, Run
from kuberpa_agent.sdk.running import ROBOT_STATE_FILE
from kuberpa_agent.worker import rundir

ENDING: Final = frozenset({RobotState.STOPPING, RobotState.KILLING})


class CloseMode(StrEnum):
    """What becomes of running attempts when the agent goes."""

    DETACH = "Detach"
    """They run on; the next agent on this state directory adopts them."""
    SAFE = "Safe"
    """They are stopped, and killed after the grace period: Stopped or Killed with reason AgentShutdown."""
    FORCE = "Force"
    """They are killed at once."""


class Control:
    """What the robot was told of pausing and stopping: a file that activities read, and a report once it is so.

    The file outlives the agent, so that one that was started anew goes on as the robot was told last.
    """

    def __init__(self, state_dir: Path, runs: Mapping[str, Run], emit: Callable[[Event], None]) -> None:
        """`runs` are the executor's own, looked at with every `look`."""
        self._path = state_dir / ROBOT_STATE_FILE
        self._runs = runs
        self._emit = emit
        self._said: wire.State | None = None
        self.state = RobotState.RUNNING
        self.generation = 0
        self._controller = ""

    def open(self) -> None:
        """Go on as the robot was told last."""
        earlier = (rundir.read_json(self._path) or {}).get("state")
        self._write(RobotState(earlier) if earlier in set(RobotState) else RobotState.RUNNING)

    @property
    def takes_work(self) -> bool:
        """Whether anything may be started."""
        return self.state is RobotState.RUNNING

    @property
    def why(self) -> str:
        """Why nothing may be started."""
        return "the robot is paused" if self.state is RobotState.PAUSED else "the robot is being stopped"

    def obey(self, state: RobotState, generation: int) -> None:
        """Let activities know."""
        self.generation = generation
        if state is not self.state:
            self._write(state)
        self.look()

    async def settle(self, seconds: float) -> None:
        """As in a safe stop of the robot: wait until what runs has ended; its program is not waited for."""
        self.obey(RobotState.STOPPING, 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(run.exit is None and run.lane is not None for run in self._runs.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # shims are no coroutines

    def look(self) -> None:
        """Report how far it is, if that has changed."""
        now = self.report()
        if now == self._said or (self._said is None and self.state is RobotState.RUNNING):
            return
        self._said = now
        self._emit(now)

    def report(self) -> wire.State:
        """How far it is. While the robot works nothing depends on the generation, so none is said."""
        running = [run for run in self._runs.values() if run.exit is None]
        if self.state is RobotState.RUNNING:
            return wire.State(state=self.state)
        settled = not running if self.state in ENDING else all(run.is_held for run in running)
        return wire.State(state=self.state, settled=settled, generation=self.generation)

    def taken_over(self, controller: str) -> None:
        """Let activities know whose hands are on the screen; nobody's: an empty name."""
        self._controller = controller
        self._write(self.state)

    def _write(self, state: RobotState) -> None:
        self.state = state
        rundir.write_json(self._path, {"state": state.value, "controller": self._controller})
        self._path.chmod(0o644)
