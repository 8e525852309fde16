"""Takes the robot's credentials, and what looks like any, out of what is recorded of a run.

Of credentials only whole values are known: what a program prints in pieces, or in another form than percent-encoded,
is not. Patterns are the orchestrator's: of a match its groups are masked, all of it when it has none.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "***"
MIN_CHARS: Final = 4
"""Shorter values are not masked: they would take half of every line along."""
MIN_LINE_CHARS: Final = 16
"""Of a value of several lines, such as a private key, lines from this length on are masked by themselves."""
NAMES: Final = frozenset({"username", "user", "login", "domain", "host", "url"})
"""Keys whose values say who and where, which people need to read."""
LOOK_SECONDS: Final = 1.0
_MAX_VALUE_BYTES: Final = 1024 * 1024
"""What a Secret may hold."""


class Masking:
    """Knows the values in a folder of credentials: those of now, and those of earlier in this run."""

    def __init__(self, folder: Path | None, patterns: Sequence[str] = ()) -> None:
        self._folder = folder
        self._patterns = [pattern for text in patterns if (pattern := _compiled(text)) is not None]
        self._known: set[str] = set()
        self._values: tuple[str, ...] = ()
        self._look_at = float("-inf")

    def text(self, text: str) -> str:
        """The text without them."""
        self._refresh()
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        for pattern in self._patterns:
            text = pattern.sub(_masked, text)
        return text

    def tree(self, value: Any) -> Any:
        """JSON without them; keys of objects stay."""
        self._refresh()
        return self._tree(value) if self._values or self._patterns else value

    def _tree(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._tree(part) for part in value]
        if isinstance(value, dict):
            return {key: self._tree(part) for key, part in value.items()}
        return value

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._folder is None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        found = {form for value in _values(self._folder) for form in _forms(value)}
        if found - self._known:
            self._known |= found
            # the longest first, for one may be part of another
            self._values = tuple(sorted(self._known, key=len, reverse=True))


def _compiled(text: str) -> re.Pattern[str] | None:
    """The pattern; None for one that is none, which must not keep a run from its output."""
    try:
        return re.compile(text)
    except re.error:
        return None


def _masked(match: re.Match[str]) -> str:
    if not match.re.groups:
        return MASK if match[0] else ""
    whole, begin = match[0], match.start()
    spans = sorted({match.span(group) for group in range(1, match.re.groups + 1) if match[group]}, reverse=True)
    for start, end in spans:
        whole = whole[: start - begin] + MASK + whole[end - begin :]
    return whole


def _values(root: Path) -> list[str]:
    values = []
    for path in [*root.glob("*/*")]:
        if path.name in NAMES or path.name.startswith("..") or path.parent.name.startswith("."):
            continue
        try:
            if path.is_file() and path.stat().st_size <= _MAX_VALUE_BYTES:
                values.append(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it is being replaced, or no text
            continue
    return values


def _forms(value: str) -> set[str]:
    whole = value.strip()
    lines = whole.splitlines()
    parts = {line.strip() for line in lines if len(line.strip()) >= MIN_LINE_CHARS} if len(lines) > 1 else {whole}
    kept = {part for part in parts if len(part) >= MIN_CHARS}
    return kept | {quote(part, safe="") for part in kept}
