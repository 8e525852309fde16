"""Signatures: which arguments a definition takes, in what order, and what their values must look like.

`parameters_of` and `bind` say how positional and named arguments meet parameters; agent and payload share them, so a
refusal before the start and a failure after it name the same field. Types are `values`' business.
"""

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from kuberpa_agent.worker import values

EITHER: Final = "either"
POSITIONAL: Final = "positional"
NAMED: Final = "named"
REST: Final = "rest"
NAMED_REST: Final = "namedRest"

PLACE: Final = "x-kuberpa"
"""Keyword of a parameter's schema for forms: `positional` has no name, `rest` takes all further ones."""

_KINDS: Final = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: EITHER,
    inspect.Parameter.POSITIONAL_ONLY: POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY: NAMED,
    inspect.Parameter.VAR_POSITIONAL: REST,
    inspect.Parameter.VAR_KEYWORD: NAMED_REST,
}


class ArgumentError(ValueError):
    """An argument does not fit; `field` is a path like `input.args[0]` or `input.kwargs.rows[2].amount`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True)
class Parameter:
    """One parameter. `logger` marks those that the worker fills in with a logger by their annotation."""

    name: str
    kind: str
    required: bool
    logger: bool = False


@dataclass(frozen=True)
class Argument:
    """A value on its way to a parameter, and where in the input it stood."""

    parameter: str
    field: str
    value: Any


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters in order."""
    hints = hints_of(function)
    return tuple(
        Parameter(
            name=p.name,
            kind=_KINDS[p.kind],
            required=p.default is p.empty and _KINDS[p.kind] not in {REST, NAMED_REST},
            logger=hints.get(p.name) is logging.Logger,
        )
        for p in inspect.signature(function).parameters.values()
    )


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types; empty where they cannot be evaluated (names imported for type checkers only)."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def describe(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """A definition as JSON: name, description, parameters (JSON Schema), order (for `bind`)."""
    hints = hints_of(function)
    signature = inspect.signature(function)
    parameters = parameters_of(function)
    properties: dict[str, Any] = {}
    extra: Any = False
    for p in parameters:
        schema = values.schema_of(hints.get(p.name, Any))
        if p.logger:
            continue
        if p.kind == NAMED_REST:
            extra = schema or True
            continue
        if p.kind == REST:
            schema = {"type": "array", "items": schema, PLACE: "rest"}
        if p.kind == POSITIONAL:
            schema = {**schema, PLACE: "positional"}
        default = signature.parameters[p.name].default
        if not p.required and p.kind != REST and values.is_json(default):
            schema = {**schema, "default": default}
        properties[p.name] = schema
    return {
        "name": name,
        "description": inspect.cleandoc(function.__doc__ or "")[:4096],
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": [p.name for p in parameters if p.required and not p.logger],
            "additionalProperties": extra,
        },
        "order": [asdict(p) for p in parameters],
    }


def bind(
    parameters: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any], injected: frozenset[str]
) -> list[Argument]:
    """Which value goes to which parameter. Raises ArgumentError naming the field."""
    filled_in = {p.name for p in parameters if p.logger} | injected
    given = [*_bind_positional(parameters, args, filled_in), *_bind_named(parameters, kwargs, filled_in)]
    taken: dict[str, Argument] = {}
    for argument in given:
        rest = argument.field.startswith("input.args") and _kind(parameters, argument.parameter) == REST
        if argument.parameter in taken and not rest:
            raise ArgumentError(argument.field, f"given already as {taken[argument.parameter].field}")
        taken[argument.parameter] = argument
    for p in parameters:
        if p.required and p.name not in taken and p.name not in filled_in:
            raise ArgumentError(f"input.kwargs.{p.name}", "is required but missing")
    return given


def _bind_positional(parameters: Sequence[Parameter], args: Sequence[Any], filled_in: set[str]) -> list[Argument]:
    slots = [p for p in parameters if p.kind in {EITHER, POSITIONAL} and p.name not in filled_in]
    rest = next((p.name for p in parameters if p.kind == REST), None)
    if len(args) > len(slots) and rest is None:
        takes = ", ".join(p.name for p in slots) or "none"
        raise ArgumentError(f"input.args[{len(slots)}]", f"one positional argument too many; it takes: {takes}")
    names = [p.name for p in slots] + [rest or ""] * max(0, len(args) - len(slots))
    return [Argument(names[i], f"input.args[{i}]", value) for i, value in enumerate(args)]


def _bind_named(parameters: Sequence[Parameter], kwargs: Mapping[str, Any], filled_in: set[str]) -> list[Argument]:
    known = {p.name for p in parameters if p.kind in {EITHER, NAMED}}
    takes_any = any(p.kind == NAMED_REST for p in parameters)
    for name in kwargs:
        if name in filled_in:
            raise ArgumentError(f"input.kwargs.{name}", "is filled in by the robot agent and cannot be given")
        if name not in known and not takes_any:
            listed = ", ".join(sorted(known - filled_in)) or "none"
            raise ArgumentError(f"input.kwargs.{name}", f"there is no such parameter; known: {listed}")
    return [Argument(name, f"input.kwargs.{name}", value) for name, value in kwargs.items()]


def _kind(parameters: Sequence[Parameter], name: str) -> str:
    return next((p.kind for p in parameters if p.name == name), NAMED_REST)


def call_arguments(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], injected: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Converted arguments, ready for `function(*args, **kwargs)`. Raises ArgumentError naming the field.

    `injected` values take the place of parameters by name; positional-only ones cannot be injected.
    """
    parameters, hints = parameters_of(function), hints_of(function)
    known = {p.name for p in parameters}
    named_rest = next((p.name for p in parameters if p.kind == NAMED_REST), "")
    has_rest = any(p.kind == REST for p in parameters)
    for name in injected:
        if name not in known:
            raise ArgumentError(f"inject.{name}", "the definition has no such parameter")
    positional: list[Any] = []
    named: dict[str, Any] = dict(injected)
    # Values that stand behind an injected parameter can no longer be passed by position.
    for argument in bind(parameters, args, kwargs, frozenset(injected)):
        hint = hints.get(argument.parameter if argument.parameter in known else named_rest, Any)
        try:
            value = values.convert(hint, argument.value, argument.field)
        except values.TypeMismatchError as error:
            raise ArgumentError(error.field, error.message) from None
        by_position = argument.field.startswith("input.args")
        if by_position and (has_rest or _kind(parameters, argument.parameter) == POSITIONAL):
            positional.append(value)
        else:
            named[argument.parameter] = value
    return positional, named
