"""One server-sent-events stream a page: what changed among what it shows, as far apart as settings say.

A message is a list of `<hx-partial>` elements, which htmx morphs into the page. A page says what it shows as parts;
the stream sends those that differ from what was sent last. Named events carry the rest:

    ping          every ten seconds, so that a page knows when it has gone stale
    log           records of an activity's output, see static/log.js
    denied        the rights were withdrawn, or the session ended: a sentence for people; the stream ends
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from kuberpa_panel.api.sse import PING_SECONDS, Source, Stream, message, open_stream, ping_source
from kuberpa_panel.database.pool import ArchiveUnavailableError

__all__ = [
    "PING_SECONDS",
    "Differ",
    "Parts",
    "Rows",
    "Shared",
    "Source",
    "Stream",
    "message",
    "open_stream",
    "partials",
    "parts_source",
    "ping_source",
]

_TICKING: Final = re.compile(r"(?<=data-since>)[^<]*")
"""The text of a running time: the page's own script keeps it, so it is no reason to send a row."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table's body: rows by their element's ID, in order."""

    rows: Mapping[str, str]


Parts = Mapping[str, "str | Rows"]
"""What a page shows, by element ID. A string is the whole element."""


@dataclass(slots=True)
class Differ:
    """Remembers what a page has, and says what it lacks."""

    sent: dict[str, str] = field(default_factory=dict)
    order: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def changes(self, parts: Parts) -> dict[str, str]:
        """Elements to replace, by ID. A table whose rows are others, or in another order, is sent whole."""
        changed: dict[str, str] = {}
        for key, part in parts.items():
            if isinstance(part, str):
                self._note(changed, key, part)
                continue
            order = tuple(part.rows)
            if self.order.get(key) == order:
                for row, html in part.rows.items():
                    self._note(changed, row, html)
            else:
                self.order[key] = order
                self.sent.update((row, _TICKING.sub("", html)) for row, html in part.rows.items())
                changed[key] = f'<tbody id="{key}">{"".join(part.rows.values())}</tbody>'
        return changed

    def _note(self, changed: dict[str, str], key: str, html: str) -> None:
        still = _TICKING.sub("", html)
        if self.sent.get(key) != still:
            self.sent[key], changed[key] = still, html


class Shared:
    """What viewers who see the same have made once: a change costs one rendering, however many look at the list."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: dict[Hashable, tuple[int, Parts]] = {}

    def parts(self, key: Hashable, generation: int, make: Callable[[], Parts]) -> Parts:
        """What was made for the key of this generation of objects, else what `make` makes now."""
        known = self._known.pop(key, None)
        if known is None or known[0] != generation:
            known = (generation, make())
        self._known[key] = known
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return known[1]


def partials(changed: Mapping[str, str]) -> str:
    """Elements as htmx morphs them in."""
    return "".join(
        f'<hx-partial hx-target="#{key}" hx-swap="outerMorph">{html}</hx-partial>' for key, html in changed.items()
    )


def parts_source(show: Callable[[], Awaitable[Parts]], kinds: frozenset[str]) -> Source:
    """Sends what changed in `show()`, at once and after every change of these kinds of objects."""

    async def run(stream: Stream) -> None:
        differ = Differ()
        with stream.context.services.cache.subscribe() as changes:
            while True:
                with suppress(ArchiveUnavailableError):
                    if changed := differ.changes(await show()):
                        await stream.send(partials(changed))
                await asyncio.sleep(stream.context.services.gsettings.settings().panel.refresh_milliseconds / 1000)
                with suppress(TimeoutError):
                    # what only time changes (the archive's rows, a progress note) is looked at every few seconds
                    async with asyncio.timeout(3.0):
                        while not any(change.kind in kinds for change in await changes.take()):
                            pass

    return run
