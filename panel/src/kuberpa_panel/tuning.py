import logging
from collections.abc import Callable
from typing import Final

from kuberpa.gsettings import Settings
from kuberpa_panel import logs
from kuberpa_panel.watch import WatchCache

log = logging.getLogger(__name__)

KIND: Final = "GSettings"


class Tuning:
    """Puts into effect what is not asked for at each use: the level from which on this process logs."""

    def __init__(self, cache: WatchCache, settings: Callable[[], Settings], level: str) -> None:
        """`level`: the environment's, for when settings name none."""
        self._cache, self._settings, self._level = cache, settings, level
        self._present = level

    async def run(self) -> None:
        """Follow changes until cancelled."""
        with self._cache.subscribe() as changes:
            self.apply()
            async for batch in changes:
                if any(change.kind == KIND for change in batch):
                    self.apply()

    def apply(self) -> None:
        """Log from the level on that is in effect now."""
        level = str(self._settings().panel.log_level or self._level)
        if level != self._present:
            self._present = level
            logs.set_level(level)
            log.warning("this replica logs from %s on", level)
