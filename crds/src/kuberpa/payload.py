"""What work items carry: JSON of a bounded size and depth."""

import json
from typing import Annotated, Any, Final

from pydantic import AfterValidator

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""Largest payload and largest output, as JSON."""
MAX_DEPTH: Final = 64
"""Objects and arrays in one another."""
TOO_DEEP: Final = f"is nested too deeply: at most {MAX_DEPTH} objects and arrays in one another are accepted"


def _within_limit(value: Any) -> Any:
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (TypeError, ValueError):
        raise ValueError("must be JSON: objects, arrays, strings, finite numbers, true, false and null") from None
    if len(text) > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"is {len(text):,} bytes of JSON; at most {MAX_PAYLOAD_BYTES:,} are accepted: store it as a file"
        )
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value):
        raise ValueError(TOO_DEEP)
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for group in inner for each in group]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


Payload = Annotated[dict[str, Any], AfterValidator(_within_limit)]
Output = Annotated[Any, AfterValidator(_within_limit)]
