import asyncio
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.routing import BaseRoute
from tests.support.plugins import install

from kuberpa_panel import plugins
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.guards import Visible
from kuberpa_panel.app import create_app
from kuberpa_panel.plugins import Installed, View
from kuberpa_panel.settings import Settings

BOARD = Path(__file__).parents[3] / "manifests/panel-board/board"
ROBOTS = {"office": {"mail": {"status": {"phase": "Idle"}}, "<b>": {"status": {"phase": "Busy", "message": "<i>"}}}}
VIEW = View("anna", Scope(everywhere=True), {"robots": ROBOTS}, {})


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    monkeypatch.syspath_prepend(install(BOARD, tmp_path / "site"))
    return next(each for each in plugins.installed() if each.name == "board")


async def test_the_sample_shows_a_card_and_a_page(board: Installed) -> None:
    assert board.version == "1.0.0"
    assert board.panel.card is not None
    assert board.panel.page is not None
    assert await plugins.shown(board, board.panel.card, VIEW) == "1 Idle, 1 Busy"
    page = await plugins.shown(board, board.panel.page, VIEW)
    assert "<table" in page
    assert "<b>" not in page
    assert "&lt;i&gt;" in page


def test_its_routes_stand_below_its_name_behind_its_right(board: Installed) -> None:
    app = create_app(Settings(database_url_file=Path("unused")))
    assert "/api/v1/panels/board/phases" in app.openapi()["paths"]
    routes = [route for route in _routes(app.router.routes) if "/panels/board" in route.path]
    assert {route.path for route in routes} >= {"/panels/board", "/panels/board/stream"}
    for route in routes:
        guards = [each.call for each in _dependants(route.dependant)]
        assert Visible(board.panel.verb, board.panel.resource) in guards, route.path


async def test_a_text_is_escaped_and_a_plug_in_that_fails_or_hangs_says_so(board: Installed) -> None:
    async def text(_: View) -> str:
        return "<script>"

    async def fails(_: View) -> str:
        raise RuntimeError("no")

    async def hangs(_: View) -> Markup:
        await asyncio.Event().wait()
        return Markup()

    assert await plugins.shown(board, text, VIEW) == "&lt;script&gt;"
    assert await plugins.shown(board, fails, VIEW) == "board failed; the panel&#39;s log says why."
    assert "did not answer within" in await plugins.shown(board, hangs, VIEW)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Board", "kuberpa_sample_board:PANEL", "lower-case letters"),
        ("text", "kuberpa_sample_board:__name__", "names a str"),
        ("missing", "no_such_module:PANEL", "cannot be loaded"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_left_out_and_logged(  # noqa: PLR0917  the parts of a wrong one
    board: Installed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    words: str,
) -> None:
    wrong = metadata.EntryPoint(name, value, plugins.GROUP)
    monkeypatch.setattr("kuberpa_panel.plugins.metadata.entry_points", lambda group: [wrong])
    assert plugins.installed() == ()
    assert words in caplog.text


def test_a_view_reads_the_tree_by_path() -> None:
    assert VIEW.get("robots/office/mail/status/phase") == "Idle"
    assert VIEW.get("robots/none", "nothing") == "nothing"


def _routes(routes: list[BaseRoute]) -> Iterator[APIRoute]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _routes(inner.routes)
        elif isinstance(route, APIRoute):
            yield route


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _dependants(each)
