"""A session of the host: held open over RDP by this supervisor, or kept at its console by the agent that is in it.

What is seen of it has two witnesses. FreeRDP tells whether the connection stands, the agent in the session what is true
there: it may be locked, or somebody else's by now. Only what both call active is.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from kuberpa.host import RobotHostSpec
from kuberpa.session import Observed, Rdp, Session, SessionState, SessionType
from kuberpa_agent.desktop.freerdp import Account, AccountError
from kuberpa_agent.desktop.keeper import Kept, NoScreen, RemoteScreen

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 30.0
"""How long the connection may stand while the session is not usable, before it is made anew."""
_UNHEARD: Final = Observed(cause="HostNotHeard", message="the host has not said how its session is")


class HostDesk:
    """What the host is told about the session, and what it says."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake`: called when there is something new to tell."""
        self._wake = wake
        self._wanted: Session | None = None
        self._account: Path | None = None
        self._reached = False
        self._heard: Callable[[Observed], None] = lambda _: None

    @property
    def is_wanted(self) -> bool:
        """Whether the robot is to have a session there."""
        return self._wanted is not None

    def want(self, wanted: Session | None, account: Path | None, heard: Callable[[Observed], None]) -> None:
        """Have the host's agent in this session from now on, whose user the account names; None: in none."""
        self._wanted, self._account, self._heard = wanted, account, heard
        self._reached = wanted is not None and wanted.type is SessionType.CONSOLE
        self._wake()

    def reach(self, *, reached: bool) -> None:
        """Whether there should be a session in which the agent can be started."""
        if reached is not self._reached:
            self._reached = reached
            self._wake()

    def told(self) -> dict[str, Any] | None:
        """For the host's side, see remote.presence."""
        if self._wanted is None:
            return None
        keep = self._wanted.keep_alive
        return {"type": self._wanted.type.value, "user": self._user(), "keep": keep, "start": self._reached}

    def hear(self, said: dict[str, Any] | None) -> None:
        """What the host says of it."""
        if said is not None:
            self._heard(Observed.of(said))

    def _user(self) -> str:
        """Whose it is; nothing: whoever the credentials of the host belong to."""
        if self._account is None:
            return ""
        try:
            account = Account.read(self._account)
        except AccountError:
            return ""
        return f"{account.domain}\\{account.user}" if account.domain else account.user


class Holds(Protocol):
    """A screen that shows the session."""

    @property
    def environment(self) -> dict[str, str]:
        """How this process finds it."""

    async def run(self) -> None:
        """Hold it until cancelled."""

    async def reconnect(self) -> None:
        """Let go of it and take it anew."""


class HostSession:
    """Looks after the session; see the module."""

    def __init__(
        self,
        wanted: Session,
        desk: HostDesk,
        see: Callable[[Observed], None],
        hold: "Callable[[Callable[[Observed], None]], Holds] | None",
        account: Path | None,
    ) -> None:
        """`hold` makes the screen that holds it, which tells what it sees; None: it needs no holding."""
        self._wanted = wanted
        self._desk = desk
        self._see = see
        self._account = account
        self._held: Observed | None = None
        self._said = _UNHEARD
        self._changed = asyncio.Event()
        self._screen = hold(self._note) if hold else None

    @property
    def environment(self) -> dict[str, str]:
        """DISPLAY and the key to it, for what this process shows of the session. The robot's runs are elsewhere."""
        return self._screen.environment if self._screen else {}

    async def run(self) -> None:
        """Look after it until cancelled."""
        self._desk.want(self._wanted, self._account, self._hear)
        self._judge()
        try:
            if self._screen is None:
                await asyncio.Event().wait()
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._screen.run())
                    group.create_task(self._refresh(self._screen))
        finally:
            self._desk.want(None, None, lambda _: None)

    async def _refresh(self, screen: Holds) -> None:
        """A connection that stands while the session stays locked or away is made anew: signing in unlocks it."""
        patience = PATIENCE_SECONDS
        while self._wanted.keep_alive:
            await self._until(self._is_stuck)
            try:
                async with asyncio.timeout(patience):
                    await self._until(lambda: not self._is_stuck())
                patience = PATIENCE_SECONDS
            except TimeoutError:
                log.warning("the session is connected and not usable: connecting anew", extra={"why": self._said.state})
                patience = min(patience * 2, 16 * PATIENCE_SECONDS)
                await screen.reconnect()

    def _is_stuck(self) -> bool:
        away = {SessionState.LOCKED, SessionState.DISCONNECTED}
        return self._held is not None and self._held.state is SessionState.ACTIVE and self._said.state in away

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    def _note(self, held: Observed) -> None:
        """The connection moved on: what the host said before is about another one."""
        was, self._held = self._held, held
        stands = held.state is SessionState.ACTIVE
        if not stands or was is None or was.state is not SessionState.ACTIVE:
            self._said = _UNHEARD
        self._desk.reach(reached=stands)
        self._judge()

    def _hear(self, said: Observed) -> None:
        self._said = said
        self._judge()

    def _judge(self) -> None:
        self._see(judge(self._wanted, self._held, self._said))
        self._changed.set()


def judge(wanted: Session, held: Observed | None, said: Observed) -> Observed:
    """What both witnesses together have seen. `held`: by the connection, None before it begins."""
    if wanted.type is SessionType.CONSOLE:
        return said
    if held is None:
        return Observed(message="is being connected", width=wanted.width, height=wanted.height)
    if held.state is not SessionState.ACTIVE:
        return held
    if said.state is SessionState.NONE:
        return held.model_copy(update={"state": SessionState.NONE, "cause": said.cause, "message": said.message})
    return said


def care(
    host: RobotHostSpec, desk: HostDesk, folder: Path, mounted: Path | None
) -> Callable[[Session, Callable[[Observed], None]], Kept]:
    """How a supervisor looks after the session that is wanted."""

    def kept(wanted: Session, see: Callable[[Observed], None]) -> Kept:
        match wanted.type:
            case SessionType.NONE:
                return NoScreen(see)
            case SessionType.CONSOLE:
                return HostSession(wanted, desk, see, None, None)
            case SessionType.RDP:
                rdp = Rdp(address=host.address, **host.rdp.model_dump())
                there = wanted.model_copy(update={"rdp": rdp})
                account = (mounted or Path("/nonexistent")) / "account"
                return HostSession(wanted, desk, see, lambda note: RemoteScreen(there, folder, mounted, note), account)

    return kept
