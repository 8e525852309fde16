"""Windows on the robot's screen, and what hands do there."""

import sys
from typing import Any

from kuberpa_agent.sdk import activity


@activity(name="window.list", needs_session=True)
def window_list(title: str | None = None) -> list[dict[str, Any]]:
    """Windows that are shown on the robot's screen, the topmost first; `title` keeps those whose title contains it.

    Each has id, title, class, pid (null where unknown), active, x, y, width, height.
    """
    wanted = (title or "").casefold()
    return [window for window in _system().windows() if wanted in window["title"].casefold()]


@activity(name="window.activate", needs_session=True)
def window_activate(title: str | None = None, *, id: int | None = None) -> dict[str, Any]:  # noqa: A002  what it is
    """Bring one window to the front and give it the keyboard: by id, or the topmost whose title contains `title`.

    Result: the window, as window.list has it. Fails when there is none.
    """
    if (title is None) == (id is None):
        raise ValueError("give either title or id")
    system = _system()
    shown = system.windows()
    matching = [w for w in shown if w["id"] == id or (title is not None and title.casefold() in w["title"].casefold())]
    if not matching:
        titles = ", ".join(repr(w["title"]) for w in shown[:20]) or "none"
        raise LookupError(f"there is no such window; shown are: {titles}")
    system.activate(matching[0]["id"])
    return {**matching[0], "active": True}


@activity(name="input.send", needs_session=True)
def input_send(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Keys, text and mouse on the robot's screen, in order; whatever is still held down at the end is let go.

    Events: {"key": "Enter"}, {"key": "c", "with": ["Control"]}, {"keyDown": "Shift"}, {"keyUp": "Shift"},
    {"text": "hi"}, {"move": [10, 20]}, {"click": [10, 20], "button": "right", "count": 2}, {"buttonDown": "left"},
    {"buttonUp": "left"}, {"scroll": [0, 3]}. Keys are named as browsers name them. Needs the right to create
    robots/control. Result: performed, how many steps they were.
    """
    from kuberpa_agent.screen.input import open_hand, read_events  # noqa: PLC0415  costs what others need not pay

    steps = read_events(events)
    hand = open_hand()
    try:
        for step in steps:
            hand.perform(step)
    finally:
        hand.close()
    return {"performed": len(steps)}


def _system() -> Any:
    if sys.platform == "win32":
        from kuberpa_agent.screen import windows_win32  # noqa: PLC0415  importable only there

        return windows_win32
    else:  # noqa: RET505  type checkers follow the branches of one statement
        from kuberpa_agent.screen import windows_x11  # noqa: PLC0415  as above

        return windows_x11
