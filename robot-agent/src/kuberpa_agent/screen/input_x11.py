"""Keys and mouse of an X display through its XTEST extension."""

from contextlib import suppress
from typing import Any, Final

from Xlib import XK, X, Xatom
from Xlib.display import Display
from Xlib.error import ConnectionClosedError, DisplayError, XError
from Xlib.ext import xtest

from kuberpa.reasons import Reason
from kuberpa_agent.screen.capture import UncapturableError
from kuberpa_agent.screen.input import Button, InputError, InputEvent, Key, Move, Scroll, Text

_KEYSYMS: Final = {
    "Alt": "Alt_L",
    "AltGraph": "ISO_Level3_Shift",
    "CapsLock": "Caps_Lock",
    "Control": "Control_L",
    "Meta": "Super_L",
    "NumLock": "Num_Lock",
    "ScrollLock": "Scroll_Lock",
    "Shift": "Shift_L",
    "Enter": "Return",
    "Tab": "Tab",
    " ": "space",
    "Backspace": "BackSpace",
    "Delete": "Delete",
    "Insert": "Insert",
    "Escape": "Escape",
    "ContextMenu": "Menu",
    "Pause": "Pause",
    "PrintScreen": "Print",
    "ArrowDown": "Down",
    "ArrowLeft": "Left",
    "ArrowRight": "Right",
    "ArrowUp": "Up",
    "End": "End",
    "Home": "Home",
    "PageDown": "Next",
    "PageUp": "Prior",
    **{f"F{n}": f"F{n}" for n in range(1, 25)},
}
_BUTTONS: Final = {"left": 1, "middle": 2, "right": 3}
_WHEEL: Final = {"up": 4, "down": 5, "left": 6, "right": 7}
_UNICODE: Final = 0x0100_0000
"""Keysyms of characters outside Latin-1 are this plus the code point."""
_LATIN1: Final = range(0x20, 0x100)
_LENT: Final = "_KUBERPA_LENT_KEYS"
"""Property of the root window: keycodes that were free and have been given a character, the oldest first."""


class XHand:
    """See kuberpa_agent.screen.input.Hand. Characters that no key has are lent a key that is free.

    A program asks the display what a key means when it gets round to reading it, which may be long after it was
    pressed. So a key keeps its character until every other free one was lent after it.
    """

    def __init__(self, display: str) -> None:
        """Raises UncapturableError."""
        try:
            self._display = Display(display)
        except (DisplayError, ConnectionClosedError, OSError) as error:
            raise UncapturableError(Reason.NO_SESSION, f"the display {display} cannot be reached: {error}") from None
        if not self._display.has_extension("XTEST"):
            self._display.close()
            raise UncapturableError(Reason.NO_SESSION, f"the display {display} takes no input: it has no XTEST")
        self._held: dict[tuple[int, int], None] = {}
        self._root = self._display.screen().root
        self._property = self._display.intern_atom(_LENT)
        self._spare = self._free_keycodes()
        self._lent_just_now: set[int] = set()

    def perform(self, event: InputEvent) -> None:
        """Do it now."""
        try:
            match event:
                case Key(key, down):
                    self._press(self._keycode(self._keysym(key)), down=down)
                case Text(text):
                    self._type(text)
                case Move(x, y):
                    xtest.fake_input(self._display, X.MotionNotify, x=x, y=y)
                case Button(button, down):
                    self._fake(X.ButtonPress if down else X.ButtonRelease, _BUTTONS[button])
                case Scroll(x, y):
                    self._turn("right" if x > 0 else "left", abs(x))
                    self._turn("down" if y > 0 else "up", abs(y))
            self._display.sync()
        except (ConnectionClosedError, XError, OSError) as error:
            raise UncapturableError(Reason.CANNOT_CAPTURE, f"the display takes no input: {error}") from None

    def release(self) -> None:
        """Let go of every key and button that is held down."""
        for kind, code in list(self._held):
            self._fake(X.KeyRelease if kind == X.KeyPress else X.ButtonRelease, code)
        self._display.sync()

    def close(self) -> None:
        """Let go of everything; a display that is gone has let go itself."""
        with suppress(ConnectionClosedError, XError, OSError):
            self.release()
            self._display.close()
        self._display.display.socket.close()

    def _fake(self, kind: int, code: int) -> None:
        xtest.fake_input(self._display, kind, code)
        if kind in {X.KeyPress, X.ButtonPress}:
            self._held[kind, code] = None
        else:
            self._held.pop((kind - 1, code), None)  # a release's number follows its press's

    def _press(self, code: tuple[int, bool], *, down: bool) -> None:
        keycode, shifted = code
        shift = self._keycode(XK.string_to_keysym("Shift_L"))[0]
        lend_shift = shifted and down and (X.KeyPress, shift) not in self._held
        if lend_shift:
            self._fake(X.KeyPress, shift)
        self._fake(X.KeyPress if down else X.KeyRelease, keycode)
        if lend_shift:
            self._fake(X.KeyRelease, shift)

    def _type(self, text: str) -> None:
        self._lent_just_now.clear()
        for character in text:
            code = self._keycode(self._keysym({"\n": "Enter", "\t": "Tab"}.get(character, character)))
            self._press(code, down=True)
            self._press(code, down=False)

    def _turn(self, way: str, steps: int) -> None:
        for _ in range(steps):
            self._fake(X.ButtonPress, _WHEEL[way])
            self._fake(X.ButtonRelease, _WHEEL[way])

    @staticmethod
    def _keysym(key: str) -> int:
        if name := _KEYSYMS.get(key):
            return int(XK.string_to_keysym(name))
        return ord(key) if ord(key) in _LATIN1 else _UNICODE + ord(key)

    def _keycode(self, keysym: int) -> tuple[int, bool]:
        """The key, and whether it needs Shift."""
        self._catch_up()
        for code, index in self._display.keysym_to_keycodes(keysym):
            if index in {0, 1}:
                return code, index == 1
        return self._lend(keysym), False

    def _lend(self, keysym: int) -> int:
        found = self._root.get_full_property(self._property, Xatom.CARDINAL)
        lent = list(found.value) if found else []
        spare = next((code for code in self._spare if code not in lent), None)
        code = spare or (lent.pop(0) if lent else None)
        if code is None or code in self._lent_just_now:
            raise InputError("this display has no free key left for another character: type the text in parts")
        self._lent_just_now.add(code)
        self._display.change_keyboard_mapping(code, [(keysym,)])
        self._root.change_property(self._property, Xatom.CARDINAL, 32, [*lent, code])
        self._display.sync()
        return code

    def _catch_up(self) -> None:
        """Learn what other hands have lent."""
        while self._display.pending_events():
            event = self._display.next_event()
            if event.type == X.MappingNotify:
                self._display.refresh_keyboard_mapping(event)

    def _free_keycodes(self) -> list[int]:
        setup: Any = self._display.display.info
        count = setup.max_keycode - setup.min_keycode + 1
        rows = self._display.get_keyboard_mapping(setup.min_keycode, count)
        return [setup.min_keycode + n for n, row in enumerate(rows) if not any(row)]
