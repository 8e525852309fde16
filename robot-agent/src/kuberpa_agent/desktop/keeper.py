"""The robot's session as its spec wants it: kept by this agent, or observed where it is somebody else's."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from kuberpa import wire
from kuberpa.session import Observed, Session, SessionState, SessionType
from kuberpa_agent.desktop.freerdp import Target
from kuberpa_agent.desktop.holder import Holder, Wish
from kuberpa_agent.desktop.virtual_screen import ScreenError, VirtualScreen
from kuberpa_agent.errors import BusyError

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 2.0
ABOUT_SESSION: Final = frozenset({"session.info", "session.lock", "session.screenshot"})
"""Definitions that say something even without a session, and see it only from inside."""


class Kept(Protocol):
    """A session in somebody's care."""

    @property
    def environment(self) -> dict[str, str]:
        """How programs find it."""

    async def run(self) -> None:
        """Look after it until cancelled."""


Care = Callable[[Session, Callable[[Observed], None]], Kept]
"""Who looks after a wanted session and tells what is seen of it."""


def _needs(job: wire.Start, definition: wire.Definition) -> bool:
    return definition.needs_session if job.needs_session is None else job.needs_session


class Keeper:
    """Has the session that Settings ask for, and says what it sees of it."""

    def __init__(
        self,
        folder: Path,
        emit: Callable[[wire.Seen], None],
        mounted: Path | None = None,
        care: "Care | None" = None,
    ) -> None:
        """`folder` is made private to the agent when a session is kept; `mounted` has accounts, see RemoteScreen.

        `care`: who looks after a session that is on another machine, where all runs are.
        """
        self._mounted = mounted
        self._care: Care = care or self._care_here
        self._folder = folder
        self._emit = emit
        self._wanted: Session | None = None
        self._kept: Kept | None = None
        self._task: asyncio.Task[None] | None = None
        self.seen = Observed()

    @property
    def environment(self) -> dict[str, str]:
        """How programs find the session."""
        return dict(self._kept.environment) if self._kept else {}

    async def configure(self, wanted: Session) -> None:
        """Have this session from now on."""
        if wanted == self._wanted:
            return
        await self.close()
        self._wanted = wanted
        self._kept = self._care(wanted, self.see)
        self._task = asyncio.create_task(self._kept.run(), name="session")

    async def close(self) -> None:
        """Let go of the session."""
        task, self._task, self._wanted = self._task, None, None
        for name in self.environment:
            os.environ.pop(name, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def check(self, job: wire.Start, definition: wire.Definition) -> None:
        """Raise BusyError for what needs an active session while there is none."""
        if _needs(job, definition) and self.seen.state is not SessionState.ACTIVE:
            raise BusyError(f"the robot's session is {self.seen.state.value}, and it needs an active one")

    def takes(self, job: wire.Start, definition: wire.Definition) -> bool:
        """Whether a run belongs into the session, where that is not where all runs are."""
        looks = definition.name in ABOUT_SESSION and self.seen.state is SessionState.ACTIVE
        return _needs(job, definition) or looks

    def see(self, seen: Observed) -> None:
        """Tell what is seen, if that has changed."""
        os.environ.update(self.environment)  # for what this process itself shows of the session
        if seen != self.seen:
            self.seen = seen
            self._emit(wire.Seen(session=seen))

    def _care_here(self, wanted: Session, see: Callable[[Observed], None]) -> Kept:
        if sys.platform == "win32":
            from kuberpa_agent.desktop.windows_session import WindowsSession  # noqa: PLC0415  importable only there

            return WindowsSession(wanted, see)
        else:  # noqa: RET505  type checkers follow the branches of one statement
            if wanted.type is SessionType.CONSOLE:
                return OwnScreen(wanted, self._folder, see)
            if wanted.type is SessionType.RDP:
                return RemoteScreen(wanted, self._folder, self._mounted, see)
            return GivenScreen(see)


class OwnScreen:
    """A virtual display of the agent's own."""

    def __init__(self, wanted: Session, folder: Path, see: Callable[[Observed], None]) -> None:
        self._wanted = wanted
        self._folder = folder
        self._see = see
        self._screen = VirtualScreen(folder)

    @property
    def environment(self) -> dict[str, str]:
        """DISPLAY and the key to it."""
        return self._screen.environment

    async def run(self) -> None:
        """Keep it; without keepAlive it is started once."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sized = Observed(width=self._wanted.width, height=self._wanted.height)
        try:
            while True:
                try:
                    await self._screen.open(self._wanted.width, self._wanted.height)
                except ScreenError as error:
                    self._see(Observed(state=SessionState.NONE, cause="ScreenFailed", message=str(error)[:1024]))
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self._see(sized.model_copy(update={"state": SessionState.ACTIVE}))
                await self._screen.wait()
                log.warning("the virtual screen ended")
                gone = {
                    "state": SessionState.LOGGED_OFF,
                    "cause": "ScreenEnded",
                    "message": "the virtual screen ended, and its windows with it",
                }
                self._see(sized.model_copy(update=gone))
                if not self._wanted.keep_alive:
                    await asyncio.Event().wait()
        finally:
            await self._screen.close()


class RemoteScreen:
    """A session of another machine, held over RDP."""

    def __init__(self, wanted: Session, folder: Path, mounted: Path | None, see: Callable[[Observed], None]) -> None:
        """`mounted`: folder with `account` and perhaps `ca`."""
        rdp, mounted = wanted.rdp, mounted or Path("/nonexistent")
        assert rdp is not None  # noqa: S101  the schema says so
        ca_file = mounted / "ca" / "ca.crt"
        target = Target(
            host=rdp.address,
            port=rdp.port,
            width=wanted.width,
            height=wanted.height,
            security=rdp.security.lower(),
            validate=rdp.validation == "Full",
            ca_file=ca_file if rdp.ca_secret_ref else None,
        )
        self._folder = folder
        self._holder = Holder(Wish(target, mounted / "account", keep=wanted.keep_alive), folder, see)

    @property
    def environment(self) -> dict[str, str]:
        """DISPLAY and the key to it: what is drawn there is the other machine's screen."""
        return self._holder.environment

    async def reconnect(self) -> None:
        """Let go of the session and take it anew."""
        await self._holder.reconnect()

    async def run(self) -> None:
        """Hold it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await self._holder.run()
        finally:
            await self._holder.close()


class NoScreen:
    """None at all."""

    def __init__(self, see: Callable[[Observed], None]) -> None:
        self._see = see

    @property
    def environment(self) -> dict[str, str]:
        """Nothing."""
        return {}

    async def run(self) -> None:
        """Say so."""
        self._see(Observed())


class GivenScreen:
    """A display that the agent was started with, or none."""

    def __init__(self, see: Callable[[Observed], None]) -> None:
        self._see = see

    @property
    def environment(self) -> dict[str, str]:
        """Programs have it from the agent's own environment."""
        return {}

    async def run(self) -> None:
        """Look again and again whether it is there."""
        if not os.environ.get("DISPLAY"):
            self._see(Observed())
            return
        while True:
            self._see(await asyncio.to_thread(look))
            await asyncio.sleep(LOOK_SECONDS)


def look() -> Observed:
    """The display that this process has."""
    from kuberpa_agent.screen.windows_x11 import look as look_at  # noqa: PLC0415  only where there is a display

    return Observed.of(look_at())
