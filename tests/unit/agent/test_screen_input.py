from typing import Any

import pytest

from kuberpa_agent.screen.input import (
    Button,
    InputError,
    InputEvent,
    Key,
    Move,
    Scroll,
    Text,
    read_event,
    read_events,
)


@pytest.mark.parametrize(
    ("value", "events"),
    [
        ({"key": "Enter"}, (Key("Enter", down=True), Key("Enter", down=False))),
        (
            {"key": "c", "with": ["Control", "Shift"]},
            (
                Key("Control", down=True),
                Key("Shift", down=True),
                Key("c", down=True),
                Key("c", down=False),
                Key("Shift", down=False),
                Key("Control", down=False),
            ),
        ),
        ({"keyDown": "Shift"}, (Key("Shift", down=True),)),
        ({"keyUp": "ф"}, (Key("ф", down=False),)),
        ({"text": "Привет,\n\tмир"}, (Text("Привет,\n\tмир"),)),
        ({"move": [3, 4]}, (Move(3, 4),)),
        ({"click": [3, 4]}, (Move(3, 4), Button("left", down=True), Button("left", down=False))),
        (
            {"click": [3, 4], "button": "right", "count": 2},
            (Move(3, 4), *(Button("right", down=down) for down in (True, False, True, False))),
        ),
        ({"buttonDown": "middle"}, (Button("middle", down=True),)),
        ({"buttonUp": "middle"}, (Button("middle", down=False),)),
        ({"scroll": [0, -3]}, (Scroll(0, -3),)),
    ],
)
def test_json_becomes_what_hands_do(value: dict[str, Any], events: tuple[InputEvent, ...]) -> None:
    assert read_event(value) == events


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "exactly one of key"),
        ({"key": "a", "text": "b"}, "exactly one of key"),
        ({"key": "Return"}, "'Return' is no key"),
        ({"key": ""}, "'' is no key"),
        ({"key": "\x1b"}, "is no key"),
        ({"key": "a", "with": "Control"}, "with is a list"),
        ({"key": "a", "count": 2}, "unknown field 'count'"),
        ({"text": "a\x00b"}, "U+0000 cannot be typed"),
        ({"text": "\ud800"}, "U+D800 cannot be typed"),
        ({"text": "x" * 4097}, "at most 4096"),
        ({"text": 5}, "text is a string"),
        ({"move": [1]}, "a place is [x, y]"),
        ({"move": [1, 2.5]}, "a place is [x, y]"),
        ({"move": [True, 1]}, "a place is [x, y]"),
        ({"move": [-1, 5]}, "is on no screen"),
        ({"move": [0, 16384]}, "is on no screen"),
        ({"click": [1, 1], "button": "fourth"}, "button must be one of left, middle, right"),
        ({"click": [1, 1], "count": 0}, "count is 1, 2 or 3"),
        ({"scroll": [0, 101]}, "at most 100 steps"),
        ({"scroll": 3}, "scroll is [steps"),
    ],
)
def test_what_no_hand_can_do_is_refused_with_what_would_be_right(value: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        read_events([{"move": [0, 0]}, value])
    assert str(refused.value).startswith("events[1]: ")
    assert message in str(refused.value)
