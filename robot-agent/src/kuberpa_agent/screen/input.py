"""What hands do: keys, text, mouse. One language for all systems, that of the browser's KeyboardEvent.key.

A `Hand` performs events one after another and remembers what it holds down, so that whoever leaves lets go.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kuberpa.reasons import Reason
from kuberpa_agent.screen.capture import MAX_SIDE, UncapturableError

BUTTONS: Final = ("left", "middle", "right")
MAX_TEXT_CHARS: Final = 4096
MAX_SCROLL_STEPS: Final = 100
NAMED_KEYS: Final = frozenset(
    {
        *("Alt", "AltGraph", "CapsLock", "Control", "Meta", "NumLock", "ScrollLock", "Shift"),
        *("Enter", "Tab", " ", "Backspace", "Delete", "Insert", "Escape", "ContextMenu", "Pause", "PrintScreen"),
        *("ArrowDown", "ArrowLeft", "ArrowRight", "ArrowUp", "End", "Home", "PageDown", "PageUp"),
        *(f"F{n}" for n in range(1, 25)),
    }
)


class InputError(ValueError):
    """An event that cannot be performed; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key goes down or up: a name from NAMED_KEYS, or the character that it types."""

    key: str
    down: bool


@dataclass(frozen=True, slots=True)
class Text:
    """Type a text, whatever the keyboard's layout."""

    text: str


@dataclass(frozen=True, slots=True)
class Move:
    """The pointer goes to a pixel of the captured picture."""

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Button:
    """A mouse button goes down or up where the pointer is."""

    button: str
    down: bool


@dataclass(frozen=True, slots=True)
class Scroll:
    """The wheel turns by steps: positive is right and down."""

    x: int
    y: int


InputEvent = Key | Text | Move | Button | Scroll


class Hand(Protocol):
    """Performs events on one screen. Belongs to the thread that opened it."""

    def perform(self, event: InputEvent) -> None:
        """Do it now. Raises InputError for what this screen has no means for, UncapturableError when it is gone."""

    def release(self) -> None:
        """Let go of every key and button that is held down."""

    def close(self) -> None:
        """Let go of everything, and of the screen."""


def open_hand(display: str | None = None) -> Hand:
    """A hand on the X display (default: $DISPLAY) or on this session's desktop. Raises UncapturableError."""
    if sys.platform == "win32":
        from kuberpa_agent.screen.input_windows import WindowsHand  # noqa: PLC0415  importable only there

        return WindowsHand()
    else:  # noqa: RET505  type checkers follow the branches of one statement
        from kuberpa_agent.screen.input_x11 import XHand  # noqa: PLC0415  as above

        name = display or os.environ.get("DISPLAY")
        if not name:
            raise UncapturableError(Reason.NO_SESSION, "this robot has no screen: no X display is set")
        return XHand(name)


def read_event(value: Mapping[str, Any]) -> tuple[InputEvent, ...]:
    """An event from JSON: its one key says what it is. Raises InputError.

    {"key": "Enter"}, {"key": "c", "with": ["Control"]}, {"keyDown": "Shift"}, {"keyUp": "Shift"}, {"text": "hi"},
    {"move": [10, 20]}, {"click": [10, 20], "button": "right", "count": 2}, {"buttonDown": "left"},
    {"buttonUp": "left"}, {"scroll": [0, 3]}
    """
    kinds = [kind for kind in _READERS if kind in value]
    if len(kinds) != 1:
        raise InputError(f"an event has exactly one of {', '.join(_READERS)}, not {sorted(value)}")
    kind = kinds[0]
    allowed, read = _READERS[kind]
    if unknown := sorted(value.keys() - {kind} - allowed):
        raise InputError(f"{kind}: unknown field {unknown[0]!r}")
    return read(value)


def _key(name: Any) -> str:
    if not isinstance(name, str) or not (name in NAMED_KEYS or (len(name) == 1 and name.isprintable())):
        raise InputError(f"{str(name)[:40]!r} is no key: use one character or one of {', '.join(sorted(NAMED_KEYS))}")
    return name


def _point(value: Any) -> tuple[int, int]:
    if not (isinstance(value, list | tuple) and len(value) == 2 and all(type(n) is int for n in value)):  # noqa: PLR2004
        raise InputError(f"a place is [x, y] in pixels, not {str(value)[:40]}")
    if not all(0 <= n < MAX_SIDE for n in value):
        raise InputError(f"[{value[0]}, {value[1]}] is on no screen")
    return value[0], value[1]


def _button(value: Any) -> str:
    if value not in BUTTONS:
        raise InputError(f"button must be one of {', '.join(BUTTONS)}, not {str(value)[:40]!r}")
    return str(value)


def _press(value: Mapping[str, Any]) -> tuple[InputEvent, ...]:
    held = value.get("with", [])
    if not isinstance(held, list | tuple):
        raise InputError('with is a list of keys, for example ["Control"]')
    keys = [_key(name) for name in (*held, value["key"])]
    return (*(Key(k, down=True) for k in keys), *(Key(k, down=False) for k in reversed(keys)))


def _text(value: Mapping[str, Any]) -> tuple[InputEvent, ...]:
    text = value["text"]
    if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS:
        raise InputError(f"text is a string of at most {MAX_TEXT_CHARS} characters")
    if wrong := next((c for c in text if not (c.isprintable() or c in "\n\t")), None):
        raise InputError(f"text: the character U+{ord(wrong):04X} cannot be typed")
    return (Text(text),)


def _click(value: Mapping[str, Any]) -> tuple[InputEvent, ...]:
    button, count = _button(value.get("button", "left")), value.get("count", 1)
    if type(count) is not int or not 1 <= count <= 3:  # noqa: PLR2004
        raise InputError("count is 1, 2 or 3")
    return (Move(*_point(value["click"])), *(Button(button, down) for _ in range(count) for down in (True, False)))


def _scroll(value: Mapping[str, Any]) -> tuple[InputEvent, ...]:
    steps = value["scroll"]
    if not (isinstance(steps, list | tuple) and len(steps) == 2 and all(type(n) is int for n in steps)):  # noqa: PLR2004
        raise InputError("scroll is [steps to the right, steps down]")
    if any(abs(n) > MAX_SCROLL_STEPS for n in steps):
        raise InputError(f"scroll: at most {MAX_SCROLL_STEPS} steps at a time")
    return (Scroll(steps[0], steps[1]),)


_NOTHING: Final[frozenset[str]] = frozenset()
_READERS: Final = {
    "key": (frozenset({"with"}), _press),
    "keyDown": (_NOTHING, lambda value: (Key(_key(value["keyDown"]), down=True),)),
    "keyUp": (_NOTHING, lambda value: (Key(_key(value["keyUp"]), down=False),)),
    "text": (_NOTHING, _text),
    "move": (_NOTHING, lambda value: (Move(*_point(value["move"])),)),
    "click": (frozenset({"button", "count"}), _click),
    "buttonDown": (_NOTHING, lambda value: (Button(_button(value["buttonDown"]), down=True),)),
    "buttonUp": (_NOTHING, lambda value: (Button(_button(value["buttonUp"]), down=False),)),
    "scroll": (_NOTHING, _scroll),
}


def read_events(values: Iterable[Mapping[str, Any]]) -> tuple[InputEvent, ...]:
    """Events from JSON, in order. Raises InputError naming the first that is wrong."""
    events: list[InputEvent] = []
    for index, value in enumerate(values):
        try:
            events += read_event(value)
        except InputError as error:
            raise InputError(f"events[{index}]: {error}") from None
    return tuple(events)
