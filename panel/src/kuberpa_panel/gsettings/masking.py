"""Secrets have no place in GSettings; what people put there all the same is not shown."""

import re
from typing import Any, Final

MASK: Final = "***"
_SECRET: Final = re.compile(
    r"(?i)(pass(word|wd|phrase)?|pwd|secret|token|api[-_]?key|credentials?|private[-_]?key|authorization)s?$"
)


def masked(value: Any, *, secret: bool = False) -> Any:
    """The same without the texts and numbers that stand under a name such as password or API key."""
    match value:
        case dict():
            named = _named(value)
            if named is not None:
                return {key: MASK if key == "value" else part for key, part in value.items()}
            return {key: masked(part, secret=bool(_SECRET.search(str(key)))) for key, part in value.items()}
        case list():
            return [masked(part, secret=secret) for part in value]
        case str() | int() | float() if secret and not isinstance(value, bool) and value != "":
            return MASK
        case _:
            return value


def _named(value: dict[str, Any]) -> str | None:
    """The name of an environment variable whose value is secret."""
    name = value.get("name")
    return name if isinstance(name, str) and "value" in value and _SECRET.search(name) else None
