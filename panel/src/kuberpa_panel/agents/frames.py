"""Frames from agents become messages; whatever is wrong with one is said in a sentence."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from kuberpa import wire
from kuberpa.model import Model

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_REASON_BYTES: Final = 120
"""A WebSocket close reason has at most 123 bytes."""


class FrameError(Exception):
    """The frame is not a message of the protocol; the text is fit for a close reason."""


def parse(frame: Mapping[str, Any]) -> wire.FromAgent:
    """The message in an ASGI `websocket.receive` event. Raises FrameError."""
    text = frame.get("text")
    if text is None:
        raise FrameError("binary frames are not part of the protocol: send JSON text")
    if len(text) > wire.MAX_FRAME_BYTES:
        raise FrameError(f"frame of {len(text)} characters: at most {wire.MAX_FRAME_BYTES} bytes")
    try:
        if "\\u" in text and ("\\ud" in text or "\\uD" in text):
            return _message(wire.FROM_AGENT.validate_python(_well_formed(text)))
        return _message(wire.FROM_AGENT.validate_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "frame"
        raise FrameError(shorten(f"{where}: {first['msg']}")) from None
    except (ValueError, RecursionError) as error:
        raise FrameError(shorten(f"frame: not JSON: {error}")) from None


def encoded(message: Model) -> str:
    """The frame of a message. Lone surrogates, which JSON can spell and UTF-8 cannot, become U+FFFD."""
    try:
        return wire.encode(message)
    except (PydanticSerializationError, UnicodeEncodeError):
        return json.dumps(_mend(message.model_dump(by_alias=True, exclude_none=True)), default=str)


def _message(message: wire.FromAgent) -> wire.FromAgent:
    return message


def _well_formed(text: str) -> Any:
    """JSON with surrogates: pairs become characters, lone ones U+FFFD, because programs do print them."""
    return _mend(json.loads(text, parse_constant=_refuse))


def _mend(value: Any) -> Any:
    match value:
        case str():
            return _SURROGATES.sub("\ufffd", value)
        case dict():
            return {_mend(key): _mend(each) for key, each in value.items()}
        case list():
            return [_mend(each) for each in value]
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def shorten(reason: str) -> str:
    """At most as many bytes as a close reason may have."""
    raw = reason.encode("utf-8", "replace")
    return reason if len(raw) <= _REASON_BYTES else raw[: _REASON_BYTES - 3].decode("utf-8", "ignore") + "…"
