"""Keeps a session of a Windows host open: FreeRDP on a virtual screen, connected again whenever it ends."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kuberpa.session import Observed, SessionState
from kuberpa_agent.desktop.ending import Ending, Stage, wait_seconds
from kuberpa_agent.desktop.freerdp import Account, AccountError, Connection, Target
from kuberpa_agent.desktop.virtual_screen import ScreenError, VirtualScreen

log = logging.getLogger(__name__)

STABLE_SECONDS: Final = 20.0
"""A session that was active for so long was a success; the next ending counts as the first."""
SCREEN_RETRY_SECONDS: Final = 5.0
ACCOUNT_POLL_SECONDS: Final = 2.0
_STATES: Final = {Ending.LOGGED_OFF: SessionState.LOGGED_OFF}


@dataclass(frozen=True, slots=True)
class Wish:
    """The session that is wanted."""

    target: Target
    account_dir: Path
    """The mounted Secret: read anew for each connection."""
    keep: bool = True
    """Whether it is connected again when it has ended."""


class Holder:
    """Holds one session until it is closed."""

    def __init__(self, wish: Wish, folder: Path, on_change: Callable[[Observed], None]) -> None:
        """`folder` is private to the agent. `on_change` is told of each change of what is seen."""
        self._wish = wish
        self._folder = folder
        self._on_change = on_change
        self._screen = VirtualScreen(folder)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        target = wish.target
        self.seen = Observed(
            state=SessionState.NONE, message="is being connected", width=target.width, height=target.height
        )
        self.failures = 0
        """Endings in a row, of one kind."""

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to see the session, while there is a screen."""
        return self._screen.environment

    def open(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self.run(), name="session")

    async def close(self) -> None:
        """Let go of the session; it stays on its host."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._screen.close()

    async def reconnect(self) -> None:
        """Let go of the connection: another one follows, as after any that broke."""
        if self._connection is not None:
            await self._connection.close()

    async def run(self) -> None:
        """Hold it until cancelled."""
        while True:
            try:
                await self._screen.open(self._wish.target.width, self._wish.target.height)
            except ScreenError as error:
                self._see(SessionState.NONE, str(error))
                await asyncio.sleep(SCREEN_RETRY_SECONDS)
                continue
            ended = asyncio.create_task(self._screen.wait())
            connected = asyncio.create_task(self._stay_connected())
            try:
                await asyncio.wait({ended, connected}, return_when=asyncio.FIRST_COMPLETED)
                if connected.done():
                    connected.result()
            finally:
                for task in (ended, connected):
                    task.cancel()
                await asyncio.gather(ended, connected, return_exceptions=True)
                await self._screen.close()
            self._see(SessionState.DISCONNECTED, "the virtual screen ended and is started again")

    async def _stay_connected(self) -> None:
        last: Ending | None = None
        while True:
            began = asyncio.get_running_loop().time()
            try:
                account = Account.read(self._wish.account_dir)
            except AccountError as error:
                self._see(SessionState.NONE, str(error))
                await self._other_account(None)
                continue
            self._connection = Connection(self._wish.target, self._folder, self._look)
            ending, words = await self._connection.run(account, self._screen.environment)
            lasted = self._connection.reached is Stage.ACTIVE and (
                asyncio.get_running_loop().time() - began >= STABLE_SECONDS
            )
            self.failures = 1 if ending is not last or lasted else self.failures + 1
            last = ending
            wait = wait_seconds(ending, self.failures)
            then = "waits for other credentials" if wait is None else f"connects again in {wait:.0f} s"
            if not self._wish.keep and self._connection.reached is Stage.ACTIVE:
                self._see(_STATES.get(ending, SessionState.DISCONNECTED), f"{words}; it is not kept alive", ending)
                await asyncio.Event().wait()
            state = _STATES.get(ending, SessionState.DISCONNECTED)
            self._see(state, f"{words}; {then}", ending)
            log.warning("session ended", extra={"ending": ending.value, "why": words, "retry_seconds": wait})
            if await self._other_account(account, wait):
                last = None

    async def _other_account(self, former: Account | None, seconds: float | None = None) -> bool:
        """Wait until the Secret has something else, at most so long. kubelet replaces files without a signal."""
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        while True:
            left = ACCOUNT_POLL_SECONDS if deadline is None else deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, ACCOUNT_POLL_SECONDS))
            try:
                if Account.read(self._wish.account_dir) != former:
                    return True
            except AccountError:
                continue

    def _look(self) -> None:
        """The connection moved on."""
        connection = self._connection
        if connection is None or connection.stage is not Stage.ACTIVE:
            return
        logon = connection.logon
        self._see(SessionState.ACTIVE, "", user=logon.user if logon else "", session=logon.session if logon else 0)

    def _see(
        self, state: SessionState, message: str, ending: Ending | None = None, user: str = "", session: int = 0
    ) -> None:
        cause = ending.value if ending else ""
        seen = self.seen.model_copy(
            update={"state": state, "message": message[:1024], "cause": cause, "user": user[:256], "id": session}
        )
        if seen != self.seen:
            self.seen = seen
            self._on_change(seen)
