"""Screen, input and windows of the agent in a real Windows CPython under wine, on a display of its own."""

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from tests.support.displays import display
from tests.support.wine import Windows

NOTEPAD = r"""
import ctypes, json, subprocess, threading
from kuberpa_agent.builtin import session, windows
from kuberpa_agent.desktop import windows_session

user32 = ctypes.WinDLL("user32")
user32.FindWindowExW.restype = ctypes.c_void_p
user32.SendMessageW.argtypes = (ctypes.c_void_p, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p)


def until(look):
    for _ in range(200):
        if found := look():
            return found
        threading.Event().wait(0.1)
    raise SystemExit("not within 20 s")


def written():
    edit = user32.FindWindowExW(ctypes.c_void_p(shown["id"]), None, "Edit", None)
    text = ctypes.create_unicode_buffer(1000)
    user32.SendMessageW(edit, 0x000D, len(text), text)  # WM_GETTEXT
    return text.value


editor = subprocess.Popen(["notepad.exe"])
shown = until(lambda: [w for w in windows.window_list("notepad") if w["pid"] == editor.pid])[0]
windows.window_activate("NOTEPAD")
until(lambda: [w for w in windows.window_list() if w["id"] == shown["id"] and w["active"]])
place = [shown["x"] + 60, shown["y"] + 120]
windows.input_send([{"click": place}, {"text": "Grüße, Привет €"}, {"key": "Enter"}, {"key": "x", "with": ["Shift"]}])
until(lambda: written().endswith("X"))
first = written()
windows.input_send([{"key": "a", "with": ["Control"]}, {"key": "Delete"}, {"text": "end"}])
until(lambda: written() == "end")
try:
    windows.window_activate("no such window")
except LookupError as error:
    missing = str(error)
picture = session.session_screenshot(format="png")
seen = windows_session.look()
editor.kill()
print(json.dumps({
    "class": shown["class"], "first": first, "missing": missing, "state": seen.state, "size": [seen.width, seen.height],
    "picture": [picture["width"], picture["height"]], "png": picture["data"], "host": session.host_info(),
}))
"""


@pytest.fixture(scope="module")
def desk(windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Windows, str]]:
    """A Windows that has a screen: a prefix belongs to the display that its first program had."""
    prefix = tmp_path_factory.mktemp("screen") / "prefix"
    shutil.copytree(windows.prefix, prefix, symlinks=True)
    own = replace(windows, prefix=prefix)
    with display("800x600") as name:
        environment = {**os.environ, "DISPLAY": name}
        manager = subprocess.Popen(["icewm"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield own, name
        finally:
            subprocess.run(["wineserver", "--kill"], env=own.environment(), check=False)
            manager.terminate()
            manager.wait(10)


@pytest.fixture(scope="module")
def told(desk: tuple[Windows, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a robot saw and did with Notepad."""
    windows, name = desk
    script = tmp_path_factory.mktemp("script") / "notepad.py"
    script.write_text(NOTEPAD, encoding="utf-8")
    done = windows.run(str(script), DISPLAY=name, timeout=200)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_text_of_any_alphabet_and_chords_reach_the_window_that_was_activated(told: dict[str, Any]) -> None:
    assert told["class"] == "Notepad"
    assert told["first"].replace("\r", "") == "Grüße, Привет €\nX"
    assert "there is no such window; shown are: " in told["missing"]


def test_the_picture_is_of_the_whole_desktop_and_not_empty(told: dict[str, Any]) -> None:
    assert told["picture"] == told["size"] == [800, 600]
    image = Image.open(io.BytesIO(base64.b64decode(told["png"])))
    assert len(image.convert("L").getcolors() or [0, 0]) > 1


def test_a_desktop_that_can_be_opened_is_an_active_session(told: dict[str, Any]) -> None:
    assert told["state"] == "Active"
    assert told["host"]["cpus"] > 0
