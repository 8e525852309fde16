"""Keys and mouse of this session's desktop on Windows through SendInput."""

import ctypes
import sys
from typing import Final

from kuberpa.reasons import Reason
from kuberpa_agent.screen.capture import UncapturableError
from kuberpa_agent.screen.input import Button, InputError, InputEvent, Key, Move, Scroll, Text

if sys.platform != "win32":
    raise ImportError("for Windows only")

_user32 = ctypes.WinDLL("user32", use_last_error=True)

_VIRTUAL_KEYS: Final = {
    "Alt": 0x12,
    "AltGraph": 0xA5,
    "CapsLock": 0x14,
    "Control": 0x11,
    "Meta": 0x5B,
    "NumLock": 0x90,
    "ScrollLock": 0x91,
    "Shift": 0x10,
    "Enter": 0x0D,
    "Tab": 0x09,
    " ": 0x20,
    "Backspace": 0x08,
    "Delete": 0x2E,
    "Insert": 0x2D,
    "Escape": 0x1B,
    "ContextMenu": 0x5D,
    "Pause": 0x13,
    "PrintScreen": 0x2C,
    "ArrowDown": 0x28,
    "ArrowLeft": 0x25,
    "ArrowRight": 0x27,
    "ArrowUp": 0x26,
    "End": 0x23,
    "Home": 0x24,
    "PageDown": 0x22,
    "PageUp": 0x21,
    **{f"F{n}": 0x6F + n for n in range(1, 25)},
}
_EXTENDED: Final = frozenset({0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x2C, 0x2D, 0x2E, 0x5B, 0x5D, 0x90, 0xA5})
"""Keys that the original keyboard did not have."""
_INPUT_MOUSE, _INPUT_KEYBOARD = 0, 1
_KEY_EXTENDED, _KEY_UP, _KEY_UNICODE = 0x1, 0x2, 0x4
_MOVE, _WHEEL, _HWHEEL, _ABSOLUTE, _VIRTUAL_DESK = 0x1, 0x800, 0x1000, 0x8000, 0x4000
_BUTTON_FLAGS: Final = {"left": (0x2, 0x4), "right": (0x8, 0x10), "middle": (0x20, 0x40)}
_WHEEL_STEP: Final = 120
_SM_CXVIRTUALSCREEN, _SM_CYVIRTUALSCREEN = 78, 79


class _Mouse(ctypes.Structure):
    _fields_ = (
        ("dx", ctypes.c_long),
        ("dy", ctypes.c_long),
        ("data", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("time", ctypes.c_ulong),
        ("extra", ctypes.c_size_t),
    )


class _Keyboard(ctypes.Structure):
    _fields_ = (
        ("vk", ctypes.c_ushort),
        ("scan", ctypes.c_ushort),
        ("flags", ctypes.c_ulong),
        ("time", ctypes.c_ulong),
        ("extra", ctypes.c_size_t),
    )


class _Union(ctypes.Union):
    _fields_ = (("mouse", _Mouse), ("keyboard", _Keyboard))


class _Input(ctypes.Structure):
    _fields_ = (("type", ctypes.c_ulong), ("value", _Union))


class WindowsHand:
    """See kuberpa_agent.screen.input.Hand."""

    def __init__(self) -> None:
        self._held: dict[Key | Button, None] = {}

    def perform(self, event: InputEvent) -> None:
        """Do it now."""
        match event:
            case Key(key, down):
                self._send(self._key(key, down=down))
                self._note(event, down=down)
            case Text(text):
                self._type(text)
            case Move(x, y):
                self._send(self._move(x, y))
            case Button(button, down):
                self._send(_mouse(flags=_BUTTON_FLAGS[button][0 if down else 1]))
                self._note(event, down=down)
            case Scroll(x, y):
                if x:
                    self._send(_mouse(data=x * _WHEEL_STEP, flags=_HWHEEL))
                if y:
                    self._send(_mouse(data=-y * _WHEEL_STEP, flags=_WHEEL))

    def release(self) -> None:
        """Let go of every key and button that is held down."""
        for held in list(self._held):
            if isinstance(held, Key):
                self.perform(Key(held.key, down=False))
            else:
                self.perform(Button(held.button, down=False))

    def close(self) -> None:
        """Let go of everything; a desktop that takes no input any more has let go itself."""
        try:
            self.release()
        except UncapturableError:
            return

    def _note(self, event: Key | Button, *, down: bool) -> None:
        pressed = Key(event.key, down=True) if isinstance(event, Key) else Button(event.button, down=True)
        if down:
            self._held[pressed] = None
        else:
            self._held.pop(pressed, None)

    def _key(self, key: str, *, down: bool) -> _Input:
        code = _VIRTUAL_KEYS.get(key)
        if code is None:
            found = _user32.VkKeyScanW(ctypes.c_wchar(key)) if ord(key) <= 0xFFFF else -1  # noqa: PLR2004
            code = found & 0xFF
            if found in {-1, 0xFFFF}:
                raise InputError(f"the keyboard's layout has no key for {key!r}: send it as text")
        up = 0 if down else _KEY_UP
        return _keyboard(vk=code, flags=up | (_KEY_EXTENDED if code in _EXTENDED else 0))

    def _type(self, text: str) -> None:
        for character in text:
            if name := {"\n": "Enter", "\t": "Tab"}.get(character):
                self._send(self._key(name, down=True), self._key(name, down=False))
                continue
            units = memoryview(character.encode("utf-16-le")).cast("H")
            for unit in units:
                self._send(_keyboard(scan=unit, flags=_KEY_UNICODE), _keyboard(scan=unit, flags=_KEY_UNICODE | _KEY_UP))

    @staticmethod
    def _move(x: int, y: int) -> _Input:
        """Absolute places go from 0 to 65535 over the whole desktop, whose origin the picture has too."""
        width = max(2, _user32.GetSystemMetrics(_SM_CXVIRTUALSCREEN))
        height = max(2, _user32.GetSystemMetrics(_SM_CYVIRTUALSCREEN))
        return _mouse(
            dx=min(65535, (x * 65536 + width - 1) // width),
            dy=min(65535, (y * 65536 + height - 1) // height),
            flags=_MOVE | _ABSOLUTE | _VIRTUAL_DESK,
        )

    @staticmethod
    def _send(*inputs: _Input) -> None:
        sent = _user32.SendInput(len(inputs), (_Input * len(inputs))(*inputs), ctypes.sizeof(_Input))
        if sent != len(inputs):
            message = ctypes.FormatError(ctypes.get_last_error())
            raise UncapturableError(Reason.CANNOT_CAPTURE, f"the desktop takes no input: {message}")


def _mouse(dx: int = 0, dy: int = 0, data: int = 0, flags: int = 0) -> _Input:
    return _Input(_INPUT_MOUSE, _Union(mouse=_Mouse(dx, dy, data & 0xFFFFFFFF, flags, 0, 0)))


def _keyboard(vk: int = 0, scan: int = 0, flags: int = 0) -> _Input:
    return _Input(_INPUT_KEYBOARD, _Union(keyboard=_Keyboard(vk, scan, flags, 0, 0)))
