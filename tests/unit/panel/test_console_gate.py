"""What a page may tell a robot's console: pieces that are written down first, interrupts, and nothing else."""

import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kuberpa_panel.database.audit import VALUE_CHARS
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.remote.console import ConsoleGate
from kuberpa_panel.remote.sockets import Visit


@dataclass
class Page:
    """The person's side, and the trail."""

    written: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False

    @property
    def websocket(self) -> "Page":
        return self

    async def send_text(self, text: str) -> None:
        self.told.append(json.loads(text))

    async def record(self, action: str, namespace: str, robot: str, **detail: object) -> None:
        if self.away:
            raise ArchiveUnavailableError("away")
        self.written.append(f"{action} {namespace}/{robot} {detail['source']}")


def gate_of(page: Page) -> ConsoleGate:
    return ConsoleGate(cast("Visit", page), "office", "mail")


async def test_a_piece_goes_on_once_it_is_written_down() -> None:
    page = Page()
    passed = await gate_of(page).admit(json.dumps({"run": "1 + 1", "user": "somebody else"}))
    assert json.loads(passed or "") == {"run": "1 + 1"}
    assert page.written == ["console.run office/mail 1 + 1"]


async def test_what_cannot_be_written_down_is_not_run() -> None:
    page = Page(away=True)
    with pytest.raises(ArchiveUnavailableError):
        await gate_of(page).admit(json.dumps({"run": "1 + 1"}))


async def test_an_interrupt_goes_on_without_an_entry() -> None:
    page = Page()
    assert await gate_of(page).admit('{"interrupt": true}') == '{"interrupt": true}'
    assert page.written == []


@pytest.mark.parametrize("source", ["a\0b", "'\ud800'", "x" * VALUE_CHARS, "\n" * (VALUE_CHARS // 2)])
async def test_a_piece_that_the_trail_cannot_hold_whole_is_refused_in_words(source: str) -> None:
    page = Page()
    assert await gate_of(page).admit(json.dumps({"run": source})) is None
    assert page.written == []
    assert [set(news) for news in page.told] == [{"text", "stream", "continues"}, {"done", "more", "seconds"}]


@pytest.mark.parametrize("message", [b"bytes", "no JSON", "[]", "{}", '{"run": 7}', "[" * 200_000, '{"console": "x"}'])
async def test_nothing_else_goes_on(message: str | bytes) -> None:
    page = Page()
    assert await gate_of(page).admit(message) is None
    assert (page.written, page.told) == ([], [])
