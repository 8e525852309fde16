import asyncio


class TokenBucket:
    """Lets through `rate` units a second on average and `burst` at once. Times are the loop's."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level = burst
        self._at = asyncio.get_running_loop().time()

    def _refill(self) -> None:
        now = asyncio.get_running_loop().time()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now

    def take(self, units: float = 1.0) -> bool:
        """Take the units if they are there."""
        self._refill()
        if self._level < units:
            return False
        self._level -= units
        return True

    async def wait(self, units: float = 1.0) -> None:
        """Take the units, going into debt, and wait until the debt is paid: the sender feels it as backpressure."""
        self._refill()
        self._level -= units
        if self._level < 0:
            await asyncio.sleep(-self._level / self._rate)
