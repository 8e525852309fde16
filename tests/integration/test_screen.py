"""Capture and input against a real X server."""

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from tests.support.displays import display, typing_window
from tests.support.waiting import eventually
from Xlib.display import Display

from kuberpa.reasons import Reason
from kuberpa_agent.screen.capture import LOOK_AGAIN, Screen, UncapturableError
from kuberpa_agent.screen.input import Button, InputError, Key, Move, Scroll, Text, open_hand, read_events


@pytest.fixture
def shown() -> Iterator[str]:
    with display("800x600") as name:
        yield name


def read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def painted(name: str, colour: str) -> None:
    """Give the display one colour; xsetroot is done when the server has it."""
    subprocess.run(["xsetroot", "-solid", colour], env={"DISPLAY": name, "PATH": "/usr/bin:/bin"}, check=True)


def test_the_picture_shows_what_is_on_the_screen(shown: str) -> None:
    painted(shown, "#2060a0")
    with Screen(shown) as screen:
        frame = screen.grab()
        assert (frame.width, frame.height) == (800, 600)
        assert frame.image().getpixel((400, 300)) == (0x20, 0x60, 0xA0)
        painted(shown, "#102030")
        assert screen.grab().image().getpixel((799, 599)) == (0x10, 0x20, 0x30)


def test_pictures_are_made_smaller_to_fit_and_never_larger(shown: str) -> None:
    with Screen(shown) as screen:
        frame = screen.grab()
    small = Image.open(io.BytesIO(frame.jpeg(max_width=200)))
    assert (small.format, small.size) == ("JPEG", (200, 150))
    same = Image.open(io.BytesIO(frame.png(max_width=5000, max_height=5000)))
    assert (same.format, same.size) == ("PNG", (800, 600))


def test_a_screen_that_changes_its_size_is_soon_seen_whole(shown: str) -> None:
    def randr(*arguments: str) -> None:
        subprocess.run(["xrandr", "--display", shown, *arguments], check=True, capture_output=True)

    randr("--newmode", "small", "0", *["640"] * 4, *["480"] * 4)
    randr("--addmode", "screen", "small")
    with Screen(shown) as screen:
        assert screen.grab().width == 800
        randr("--output", "screen", "--mode", "small")
        assert screen.grab().width == 640
        randr("--output", "screen", "--mode", "800x600")
        assert 800 in {screen.grab().width for _ in range(LOOK_AGAIN + 1)}


def test_a_robot_without_a_screen_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    for opened in (Screen, open_hand):
        with pytest.raises(UncapturableError, match="no X display is set") as missing:
            opened()
        assert missing.value.reason is Reason.NO_SESSION
        with pytest.raises(UncapturableError, match="cannot be reached") as missing:
            opened("no display")
        assert missing.value.reason is Reason.NO_SESSION


def test_a_screen_that_goes_away_ends_capture_and_input_with_a_reason() -> None:
    with display() as name:
        screen, hand = Screen(name), open_hand(name)
        hand.perform(Key("Shift", down=True))
    with pytest.raises(UncapturableError) as gone:
        screen.grab()
    assert gone.value.reason is Reason.NO_SESSION
    with pytest.raises(UncapturableError) as gone:
        hand.perform(Move(1, 1))
    assert gone.value.reason is Reason.CANNOT_CAPTURE
    hand.close()
    screen.close()


def test_text_of_any_alphabet_and_single_keys_are_typed(shown: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    with typing_window(shown, told):
        eventually(lambda: read(told.with_suffix(".ready")), "the window")
        hand = open_hand(shown)
        for event in (*read_events([{"click": [400, 300]}]), Text("Hello, Привет €100 ąß~{}"), Scroll(0, 2)):
            hand.perform(event)
        for event in read_events([{"key": "x"}, {"key": "Backspace"}, {"keyDown": "Shift"}, {"key": "q"}]):
            hand.perform(event)
        hand.release()
        for event in read_events([{"key": "q"}, {"key": "Enter"}]):
            hand.perform(event)
        assert eventually(lambda: read(told), "the line") == "Hello, Привет €100 ąß~{}Qq"
        hand.close()


def test_a_hand_that_leaves_lets_go(shown: str) -> None:
    watcher = Display(shown)
    hand = open_hand(shown)
    hand.perform(Move(10, 20))
    hand.perform(Button("left", down=True))
    hand.perform(Key("Control", down=True))
    held = watcher.screen().root.query_pointer()
    assert (held.root_x, held.root_y, held.mask) == (10, 20, 0x100 | 0x4)
    hand.close()
    assert watcher.screen().root.query_pointer().mask == 0
    watcher.close()


def test_more_characters_than_the_display_has_keys_are_typed_in_parts(shown: str, tmp_path: Path) -> None:
    hand = open_hand(shown)
    with pytest.raises(InputError, match="no free key left"):
        hand.perform(Text("".join(chr(n) for n in range(0x4E00, 0x4F00))))
    hand.close()
    told = tmp_path / "told"
    with typing_window(shown, told):
        eventually(lambda: read(told.with_suffix(".ready")), "the window")
        other = open_hand(shown)
        for event in (*read_events([{"click": [400, 300]}]), Text("ąęж"), Key("Enter", down=True)):
            other.perform(event)
        assert eventually(lambda: read(told), "the line") == "ąęж"
        other.close()


def test_what_is_typed_arrives_though_the_hand_has_gone_before_it_is_read(shown: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    with typing_window(shown, told) as window:
        eventually(lambda: read(told.with_suffix(".ready")), "the window")
        hand = open_hand(shown)
        for event in read_events([{"click": [400, 300]}]):
            hand.perform(event)
        reader = psutil.Process(window.pid)
        reader.suspend()
        for event in (Text("Grüße €5"), Key("Enter", down=True)):
            hand.perform(event)
        hand.close()
        reader.resume()
        assert eventually(lambda: read(told), "the line") == "Grüße €5"
