"""The shape of spec.input, which the CRD leaves free because CEL cannot compare free-form lists."""

from typing import Any, Final

KNOWN: Final = ("args", "kwargs")


def input_error(value: dict[str, Any]) -> str | None:
    """What is wrong with an input, naming the field and what would be right; None when nothing is."""
    if "args" in value and not isinstance(value["args"], list):
        return f'spec.input.args: must be a list such as ["a", 1], not {_named(value["args"])}'
    if "kwargs" in value and not isinstance(value["kwargs"], dict):
        return f'spec.input.kwargs: must be an object such as {{"name": "a"}}, not {_named(value["kwargs"])}'
    unknown = sorted(key for key in value if key not in KNOWN)
    if unknown:
        return f"spec.input.{unknown[0][:64]}: unknown field; an input has args (a list) and kwargs (an object)"
    return None


def _named(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
