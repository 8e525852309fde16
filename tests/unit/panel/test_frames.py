import pytest

from kuberpa import wire
from kuberpa_panel.agents.frames import FrameError, parse, shorten


def test_a_message_is_read() -> None:
    message = parse({"type": "websocket.receive", "text": '{"type": "started", "uid": "u", "token": 1}'})
    assert message == wire.Started(uid="u", token=1)


def test_lone_surrogates_become_replacement_characters_and_pairs_stay_characters() -> None:
    text = '{"type": "progress", "uid": "u", "token": 1, "message": "a\\ud800b \\ud83d\\ude00"}'
    message = parse({"text": text})
    assert isinstance(message, wire.Progress)
    assert message.message == "a\ufffdb 😀"


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ({"bytes": b"\x00"}, "binary"),
        ({"text": "x" * (wire.MAX_FRAME_BYTES + 1)}, "at most"),
        ({"text": "{"}, "JSON"),
        ({"text": '{"type": "started", "token": 1}'}, "started.uid"),
        ({"text": '{"type": "progress", "uid": "u", "token": 1, "fraction": 2}'}, "progress.fraction"),
        ({"text": '{"\\ud800": NaN}'}, "NaN"),
        ({"text": "[" * 5000 + '"\\ud800"'}, "JSON"),
    ],
)
def test_what_is_no_message_is_named(frame: dict[str, object], complaint: str) -> None:
    with pytest.raises(FrameError, match=complaint):
        parse(frame)


def test_a_reason_fits_a_close_frame() -> None:
    assert len(shorten("ж" * 500).encode()) <= 123
    assert shorten("short") == "short"
