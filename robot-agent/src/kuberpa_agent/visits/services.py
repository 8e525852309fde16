import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from kuberpa.robot import RobotState
from kuberpa.wire import Settings, StreamKind
from kuberpa_agent.bench import Bench
from kuberpa_agent.settings import AgentSettings
from kuberpa_agent.visits import processes
from kuberpa_agent.visits.camera import Camera
from kuberpa_agent.visits.consoles import Consoles
from kuberpa_agent.visits.control import Takeover
from kuberpa_agent.visits.debuggers import Debuggers, Door
from kuberpa_agent.visits.files import Files
from kuberpa_agent.visits.recorder import Recorder
from kuberpa_agent.visits.service import Service
from kuberpa_agent.visits.terminal import Terminals
from kuberpa_agent.visits.view import Screens


class Services:
    """What an agent on this machine serves to people."""

    def __init__(
        self,
        settings: AgentSettings,
        told: Callable[[str], None],
        busy: Callable[[], bool],
        bench: Callable[[], Bench],
        door: Door,
    ) -> None:
        """`told` tells the robot whose hands are on its screen; `busy` says whether anything runs.

        `bench` says where a console would work, `door` where a run's debugger listens.
        """
        self._supervises = settings.host is not None
        """A supervisor's own machine is not the robot's, and holds the credentials of the host."""
        self._terminals = Terminals()
        self._consoles = Consoles(bench)
        self._debuggers = Debuggers(door)
        self._camera = Camera()
        self._takeover = Takeover(told)
        self._screens = Screens(self._camera, self._takeover)
        self.recorder = Recorder(self._camera, settings.state_dir / "recorder", busy)
        # an agent that somebody installed keeps its key beside its state
        proof = (settings.token_file or settings.state_dir).parent
        hidden = [settings.state_dir, proof, settings.secrets_dir, settings.package_index_dir]
        home = Path(os.environ.get("HOME") or os.environ.get("USERPROFILE") or Path.home())
        roots = settings.file_roots or (home, Path(tempfile.gettempdir()))
        self._files = Files(roots, tuple(folder.absolute() for folder in hidden if folder is not None))

    def by_kind(self) -> dict[StreamKind, Service]:
        """The service of each kind of stream."""
        seen: dict[StreamKind, Service] = {
            StreamKind.SCREEN: self._screens.serve,
            StreamKind.THUMBNAIL: self._screens.thumbnails,
            StreamKind.RECORDING: self.recorder.serve,
        }
        if self._supervises:
            return seen
        return seen | {
            StreamKind.TERMINAL: self._terminals.serve,
            StreamKind.CONSOLE: self._consoles.serve,
            StreamKind.DEBUGGER: self._debuggers.serve,
            StreamKind.FILES: self._files.serve,
            StreamKind.PROCESSES: processes.serve,
        }

    def apply(self, settings: Settings) -> None:
        """What the robot's spec allows now."""
        allowed = settings.debug and settings.state in {RobotState.RUNNING, RobotState.PAUSED}
        self._consoles.allow(allowed)
        self._debuggers.allow(settings.debug)

    async def close(self) -> None:
        """The agent ends."""
        await self._consoles.close()
        await self._terminals.close()
        await self._takeover.close()
        self._camera.close()
