"""The one eye on the robot's screen: whoever looks at the same moment sees the same picture."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from kuberpa_agent.screen.capture import Frame, Screen, UncapturableError


class Camera:
    """Takes pictures in a thread of its own, one at a time, and only when somebody asks."""

    def __init__(self, display: str | None = None) -> None:
        self._display = display
        self._thread = ThreadPoolExecutor(1, "camera")
        self._screen: Screen | None = None
        self._last: Frame | None = None
        self._taken_at = float("-inf")
        self._under_way: asyncio.Future[Frame] | None = None

    async def look(self, max_age: float = 0.0) -> Frame:
        """A picture that is at most so many seconds old. Raises UncapturableError."""
        loop = asyncio.get_running_loop()
        if self._last is not None and loop.time() - self._taken_at <= max_age:
            return self._last
        if self._under_way is None:
            self._under_way = loop.run_in_executor(self._thread, self._take)
            self._under_way.add_done_callback(self._taken)
        return await asyncio.shield(self._under_way)

    def close(self) -> None:
        """Let go of the screen."""
        self._thread.submit(self._leave)
        self._thread.shutdown(wait=False)

    def _taken(self, done: "asyncio.Future[Frame]") -> None:
        self._under_way = None
        failed = done.cancelled() or done.exception() is not None
        self._last = None if failed else done.result()
        self._taken_at = asyncio.get_running_loop().time()

    def _take(self) -> Frame:
        try:
            if self._screen is None:
                self._screen = Screen(self._display)
            return self._screen.grab()
        except UncapturableError:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._screen is not None:
            screen, self._screen = self._screen, None
            screen.close()
