"""Windows on an X display, with a window manager or without."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from Xlib import X
from Xlib.display import Display
from Xlib.error import BadWindow, ConnectionClosedError, DisplayError

from kuberpa.reasons import Reason
from kuberpa_agent.screen.capture import UncapturableError


def windows() -> list[dict[str, Any]]:
    """Those that are shown, the topmost first. Raises UncapturableError."""
    with _display() as display:
        active = _focused(display)
        return [told for window in _shown(display) if (told := _describe(display, window, active)) is not None]


def activate(number: int) -> None:
    """Bring one to the front and give it the keyboard."""
    with _display() as display:
        window = display.create_resource_object("window", number)
        window.configure(stack_mode=X.Above)
        window.set_input_focus(X.RevertToPointerRoot, X.CurrentTime)
        display.sync()


def end_all() -> int:
    """Disconnect every program that has a window on the display. How many windows there were."""
    with _display() as display:
        shown = list(_shown(display))
        for window in shown:
            window.kill_client()
        display.sync()
        return len(shown)


def look() -> dict[str, Any]:
    """Whether the display is there, and its size: fields of kuberpa.session.Observed."""
    try:
        with _display() as display:
            size = display.screen().root.get_geometry()
            return {"state": "Active", "width": size.width, "height": size.height}
    except (UncapturableError, ConnectionClosedError) as error:
        return {"state": "Disconnected", "cause": "ScreenGone", "message": str(error)[:1024]}


@contextmanager
def _display() -> Iterator[Any]:
    name = os.environ.get("DISPLAY")
    if not name:
        raise UncapturableError(Reason.NO_SESSION, "this robot has no screen: no X display is set")
    try:
        display = Display(name)
    except (DisplayError, ConnectionClosedError, OSError) as error:
        raise UncapturableError(Reason.NO_SESSION, f"the display {name} cannot be reached: {error}") from None
    display.set_error_handler(lambda *_: None)  # a window may go while it is looked at
    try:
        yield display
    finally:
        display.close()


def _shown(display: Any) -> Iterator[Any]:
    """Programs' windows, the topmost first: a window manager's frames hold them one level deeper."""
    for child in reversed(display.screen().root.query_tree().children):
        try:
            if child.get_attributes().map_state != X.IsViewable:
                continue
            inner = [child, *child.query_tree().children]
            yield next((window for window in inner if window.get_wm_class()), child)
        except BadWindow:
            continue


def _focused(display: Any) -> set[int]:
    """The window that has the keyboard, and those that it is in: programs may give the keyboard to a part of theirs."""
    window, found = display.get_input_focus().focus, set[int]()
    try:
        while hasattr(window, "id") and window.id != display.screen().root.id:
            found.add(window.id)
            window = window.query_tree().parent
    except BadWindow:
        pass
    return found


def _describe(display: Any, window: Any, active: set[int]) -> dict[str, Any] | None:
    try:
        name = window.get_full_text_property(display.intern_atom("_NET_WM_NAME")) or window.get_wm_name() or ""
        kind = window.get_wm_class()
        owner = window.get_full_property(display.intern_atom("_NET_WM_PID"), X.AnyPropertyType)
        size = window.get_geometry()
        place = window.translate_coords(display.screen().root, 0, 0)
    except BadWindow:
        return None
    return {
        "id": window.id,
        "title": name.decode("utf-8", "replace") if isinstance(name, bytes) else name,
        "class": kind[1] if kind else "",
        "pid": int(owner.value[0]) if owner else None,
        "active": window.id in active,
        "x": -place.x,
        "y": -place.y,
        "width": size.width,
        "height": size.height,
    }
