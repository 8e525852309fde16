"""Screen and hands of a robot on Windows: a real desktop of wine's on an X server with a window manager."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.displays import display
from tests.support.wine import installed

pytestmark = pytest.mark.timeout(120)

DESKTOP = """
import ctypes, json, sys, time
from ctypes import wintypes
from kuberpa_agent.screen import windows_win32
from kuberpa_agent.screen.capture import Screen
from kuberpa_agent.screen.input import Button, Key, Move, Text, open_hand

user32 = ctypes.WinDLL("user32", use_last_error=True)
user32.CreateWindowExW.restype = wintypes.HWND
user32.CreateWindowExW.argtypes = [
    wintypes.DWORD, wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD, *[ctypes.c_int] * 4,
    wintypes.HWND, wintypes.HMENU, wintypes.HINSTANCE, wintypes.LPVOID,
]
VISIBLE, POPUP, WHITE, MULTILINE = 0x10000000, 0x80000000, 0x6, 0x4

def window(kind, title, style, x, y, width, height):
    place = (x, y, width, height)
    handle = user32.CreateWindowExW(0, kind, title, style | VISIBLE | POPUP, *place, None, None, None, None)
    assert handle, ctypes.WinError(ctypes.get_last_error())
    user32.UpdateWindow(wintypes.HWND(handle))
    return handle

def pump(until, seconds=20.0):
    message, end = wintypes.MSG(), time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "not in time"
        while user32.PeekMessageW(ctypes.byref(message), None, 0, 0, 1):
            user32.TranslateMessage(ctypes.byref(message))
            user32.DispatchMessageW(ctypes.byref(message))
        time.sleep(0.01)

def pixel(frame, x, y):
    at = 4 * (y * frame.width + x)
    return list(frame.pixels[at:at + 3])

white = window("STATIC", "a white field", WHITE, 100, 120, 200, 100)
edit = window("EDIT", "", MULTILINE, 350, 300, 200, 100)

def typed():
    text = ctypes.create_unicode_buffer(100)
    user32.GetWindowTextW(wintypes.HWND(edit), text, 100)
    return text.value

with Screen() as screen:
    pump(lambda: pixel(screen.grab(), 200, 170) == [255, 255, 255])
    frame = screen.grab()
    found = {"size": [frame.width, frame.height], "inside": pixel(frame, 200, 170), "outside": pixel(frame, 700, 30),
             "jpeg": len(frame.jpeg()), "titles": [w["title"] for w in windows_win32.windows()]}
hand = open_hand()
hand.perform(Move(400, 340))
hand.perform(Button("left", down=True))
hand.perform(Button("left", down=False))
pump(lambda: user32.GetFocus() == edit)
hand.perform(Text("Привет, "))
for character in "ok":
    hand.perform(Key(character, down=True))
    hand.perform(Key(character, down=False))
pump(lambda: typed().endswith("ok"))
hand.close()
print(json.dumps({**found, "typed": typed()}))
"""


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a Windows program saw and did on an 800x600 desktop."""
    with display("800x600") as name:
        manager = subprocess.Popen(
            ["icewm", "--display", name, "--replace"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with installed(tmp_path_factory.mktemp("desktop"), name) as windows:
                done = windows.run("-X", "utf8", "-c", DESKTOP)
            assert done.returncode == 0, done.stdout + done.stderr
            yield json.loads(done.stdout.splitlines()[-1])
        finally:
            manager.kill()
            manager.wait()


def test_the_pixels_are_those_of_the_desktop(desktop: dict[str, Any]) -> None:
    assert desktop["size"] == [800, 600]
    assert desktop["inside"] == [255, 255, 255]
    assert desktop["outside"] != [255, 255, 255]
    assert desktop["jpeg"] > 1000


def test_windows_are_listed_by_title(desktop: dict[str, Any]) -> None:
    assert "a white field" in desktop["titles"]


def test_text_and_keys_arrive_in_the_window_that_was_clicked(desktop: dict[str, Any]) -> None:
    assert desktop["typed"] == "Привет, ok"
