"""A robot's own screen on Linux, and the definitions that look at it and act on it, by the real executor."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from tests.support.agent_runs import Bench
from tests.support.descendants import descendants

from kuberpa import wire
from kuberpa_agent.errors import BusyError

CONSOLE = {"type": "Console", "width": 800, "height": 600}
TYPING = 'xterm -T "type here" -u8 -geometry 60x10+0+0 -e sh -c \'IFS= read -r line; printf %s "$line" >typed\''


async def configure(bench: Bench, **session: Any) -> None:
    await bench.executor.configure(wire.Settings.of({"session": session, "concurrency": 4}))


async def seen(bench: Bench, state: str) -> wire.Seen:
    await bench.until(lambda: bool(bench.sessions) and bench.sessions[-1].session.state == state)
    return bench.sessions[-1]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Bench]:
    """A robot with a screen of 800 x 600."""
    async with Bench(tmp_path / "state") as bench:
        await configure(bench, **CONSOLE)
        await seen(bench, "Active")
        yield bench


def screens(bench: Bench) -> list[psutil.Process]:
    """The X servers that the agent of this bench has started; other tests of this process have some too."""
    key = str(bench.state_dir)
    ours = (each for each in descendants() if any(key in word for word in each.command))
    return [each.process for each in ours if each.name == "Xvfb"]


async def result(bench: Bench, definition: str, *args: Any, **kwargs: Any) -> Any:
    end = (await bench.run(definition, *args, **kwargs)).end
    assert end.outcome == "Succeeded", end.message
    return end.result


async def window(desk: Bench) -> tuple[str, dict[str, Any]]:
    """A terminal that writes the line that is typed into it: its run, and its window."""
    terminal = await desk.start("os.command", ["sh", "-c", TYPING], options={"async": True})
    found: list[dict[str, Any]] = []
    while not found:
        found = await result(desk, "window.list", "type here")
    return terminal, found[0]


async def test_programs_find_the_screen_and_a_picture_shows_them(desk: Bench) -> None:
    info = await result(desk, "session.info")
    assert (info["state"], info["width"], info["height"]) == ("Active", 800, 600)
    await result(desk, "os.command", ["xsetroot", "-solid", "#2060a0"])
    picture = await result(desk, "session.screenshot", format="png")
    image = Image.open(io.BytesIO(base64.b64decode(picture["data"])))
    assert (image.size, image.getpixel((400, 300))) == ((800, 600), (0x20, 0x60, 0xA0))
    small = await result(desk, "session.screenshot", "shots/one.jpg", max_width=200)
    assert small["path"] == str(desk.state_dir / "files" / "shots" / "one.jpg")
    with Image.open(small["path"]) as written:
        assert written.size == (200, 150)


async def test_windows_are_listed_activated_and_typed_into(desk: Bench) -> None:
    terminal, shown = await window(desk)
    assert shown["class"] == "XTerm"
    assert {shown["x"], shown["y"]} <= {0, 1}  # its border
    assert (await result(desk, "window.activate", "TYPE"))["id"] == shown["id"]
    assert (await result(desk, "window.list"))[0]["active"] is True
    await result(desk, "input.send", [{"text": "Grüße €5"}, {"key": "Enter"}])
    assert (await desk.finished(terminal)).end.outcome == "Succeeded"
    assert (desk.state_dir / "files" / "typed").read_text() == "Grüße €5"


async def test_logging_off_ends_the_programs_on_the_screen(desk: Bench) -> None:
    await window(desk)
    assert (await result(desk, "session.logoff"))["windows"] == 1
    while await result(desk, "window.list"):
        pass


async def test_wrong_input_is_named_and_nothing_is_done(desk: Bench) -> None:
    for definition, arguments, words in (
        ("input.send", [[{"key": "a"}, {"key": "Return"}]], "events[1]: 'Return' is no key"),
        ("window.activate", ["no such window"], "there is no such window; shown are: none"),
        ("window.activate", [], "give either title or id"),
        ("session.screenshot", ["../out.png"], "must stay inside"),
        ("session.lock", [], "session.lock works on Windows"),
        ("host.restart", [], "a robot in a pod is restarted as a Robot"),
    ):
        end = (await desk.run(definition, *arguments)).end
        assert end.outcome == "Failed"
        assert words in end.message


async def test_a_screen_that_dies_is_told_and_started_again(desk: Bench) -> None:
    screens(desk)[0].kill()
    await desk.until(lambda: any(said.session.state == "LoggedOff" for said in desk.sessions))
    await seen(desk, "Active")
    assert (await result(desk, "session.info"))["state"] == "Active"


async def test_without_keep_alive_a_screen_that_dies_stays_away(tmp_path: Path) -> None:
    async with Bench(tmp_path / "state") as bench:
        await configure(bench, **CONSOLE, keepAlive=False)
        await seen(bench, "Active")
        screens(bench)[0].kill()
        gone = await seen(bench, "LoggedOff")
        assert gone.session.cause == "ScreenEnded"
        with pytest.raises(BusyError, match="session is LoggedOff, and it needs an active one"):
            await bench.start("window.list")
        with pytest.raises(BusyError):
            await bench.start("os.command", ["true"], options={"needsSession": True})
        assert (await bench.run("window.list", options={"needsSession": False})).end.outcome == "Failed"


async def test_a_changed_size_makes_another_screen_and_none_ends_it(desk: Bench) -> None:
    await configure(desk, type="Console", width=640, height=480)
    await desk.until(lambda: desk.sessions[-1].session.width == 640)
    await configure(desk)
    await seen(desk, "None")
    assert not screens(desk)
    assert (await desk.run("session.screenshot")).end.message.endswith("no X display is set")


async def test_the_machine_is_told(bench: Bench) -> None:
    info = await result(bench, "host.info")
    assert info["cpus"] == psutil.cpu_count()
    assert info["memoryBytes"] == psutil.virtual_memory().total


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(tmp_path / "state") as bench:
        yield bench
