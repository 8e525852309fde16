"""Whose hands are on the robot's screen: one person's at a time, and everybody who looks knows whose."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from kuberpa_agent.screen.input import Hand, InputEvent, open_hand


class Looker(Protocol):
    """Somebody who looks at the screen."""

    user: str

    def tell(self, news: dict[str, Any]) -> None:
        """Something that everybody who looks is to know."""


class Takeover:
    """Who looks, and who of them has the keyboard and the mouse."""

    def __init__(self, told: Callable[[str], None], display: str | None = None) -> None:
        """`told` tells the robot who has it: a name, or nothing."""
        self._told, self._display = told, display
        self._lookers: list[Looker] = []
        self._holder: Looker | None = None
        self._hand: Hand | None = None
        self._thread = ThreadPoolExecutor(1, "hand")

    def join(self, looker: Looker) -> None:
        """Somebody looks."""
        self._lookers.append(looker)
        self._announce()

    async def leave(self, looker: Looker) -> None:
        """Somebody looks no more, and lets go of everything."""
        if looker in self._lookers:
            self._lookers.remove(looker)
        await self.release(looker)
        self._announce()

    async def take(self, looker: Looker, *, force: bool) -> str:
        """Give somebody the keyboard and the mouse. Returns why not, else nothing."""
        if self._holder is looker:
            return ""
        if self._holder is not None:
            if not force:
                return f"{self._holder.user} has control"
            self._holder.tell({"lost": f"{looker.user} took control"})
            await self._let_go()
        self._holder = looker
        self._told(looker.user)
        self._announce()
        return ""

    async def release(self, looker: Looker) -> None:
        """Give it back."""
        if self._holder is looker:
            self._holder = None
            await self._let_go()
            self._told("")
            self._announce()

    async def perform(self, looker: Looker, events: Iterable[InputEvent]) -> bool:
        """Do what the hands do; False when they are somebody else's. Raises InputError and UncapturableError."""
        if self._holder is not looker:
            return False
        await asyncio.get_running_loop().run_in_executor(self._thread, self._perform, tuple(events))
        return True

    async def close(self) -> None:
        """Let go, for good."""
        await self._let_go()
        self._thread.shutdown(wait=False)

    def _perform(self, events: tuple[InputEvent, ...]) -> None:
        if self._hand is None:
            self._hand = open_hand(self._display)
        try:
            for event in events:
                self._hand.perform(event)
        except BaseException:
            self._close_hand()
            raise

    async def _let_go(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close_hand)

    def _close_hand(self) -> None:
        if self._hand is not None:
            hand, self._hand = self._hand, None
            hand.close()

    def _announce(self) -> None:
        news = {
            "viewers": sorted({looker.user for looker in self._lookers}),
            "controller": self._holder.user if self._holder else "",
        }
        for looker in self._lookers:
            looker.tell(news | {"mine": looker is self._holder})
