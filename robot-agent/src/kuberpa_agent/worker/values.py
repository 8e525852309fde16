"""Python types as JSON Schema, JSON values as Python values, and results back as JSON.

Standard types are handled here, so that a robot's environment needs no library. Where an annotation is a
pydantic model or carries constraints (`Annotated[int, Field(gt=0)]`), the pydantic of that environment decides.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import types as builtin_types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

_SCALARS: Final[dict[Any, dict[str, Any]]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    decimal.Decimal: {"type": ["string", "number"]},
    pathlib.Path: {"type": "string", "format": "path"},
    pathlib.PurePath: {"type": "string", "format": "path"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}
_FROM_TEXT: Final[dict[Any, Callable[[str], Any]]] = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    pathlib.Path: pathlib.Path,
    pathlib.PurePath: pathlib.PurePath,
    uuid.UUID: uuid.UUID,
}
_JSON_NAMES: Final = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


class TypeMismatchError(ValueError):
    """A JSON value does not fit a type; `field` says where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def schema_of(hint: Any) -> dict[str, Any]:  # noqa: PLR0911  one line a kind of type
    """JSON Schema of an annotation; {} (anything) for what has none."""
    if hint in (Any, object) or isinstance(hint, typing.TypeVar | str):
        return {}
    if (adapter := _pydantic_adapter(hint)) is not None:
        return dict(adapter.json_schema())
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return schema_of(args[0])
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in (typing.Union, builtin_types.UnionType):
        return {"anyOf": [schema_of(a) for a in args]}
    if hasattr(hint, "__supertype__"):
        return schema_of(hint.__supertype__)
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    return _class_schema(origin or hint, args, hint)


def _class_schema(  # noqa: PLR0911  one line a kind of type
    kind: Any, args: tuple[Any, ...], hint: Any
) -> dict[str, Any]:
    if not isinstance(kind, type):
        return {}
    if issubclass(kind, enum.Enum):
        return {"enum": [m.value for m in kind]}
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(hint):
        fields, required = _fields(kind)
        return {
            "type": "object",
            "properties": {name: schema_of(h) for name, h in fields.items()},
            "required": sorted(required),
            "additionalProperties": False,
        }
    if issubclass(kind, tuple) and args and args[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [schema_of(a) for a in args], "minItems": len(args), "items": False}
    if issubclass(kind, Mapping):
        return {"type": "object", "additionalProperties": schema_of(args[1]) or True if args else True}
    if issubclass(kind, Sequence | AbstractSet) and not issubclass(kind, str | bytes):
        return {"type": "array", "items": schema_of(args[0]) if args else {}}
    return {}


def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """Field types and required names of a dataclass or TypedDict."""
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        fields = [f for f in dataclasses.fields(kind) if f.init]
        missing = dataclasses.MISSING
        required = {f.name for f in fields if f.default is missing and f.default_factory is missing}
        return {f.name: hints[f.name] for f in fields}, required
    return hints, set(kind.__required_keys__)


def convert(hint: Any, value: Any, field: str) -> Any:  # noqa: PLR0911  one branch a kind of type
    """The JSON value as the annotated type. Raises TypeMismatchError naming the field."""
    if hint in (Any, object) or isinstance(hint, typing.TypeVar | str):
        return value
    if (adapter := _pydantic_adapter(hint)) is not None:
        return _by_pydantic(adapter, value, field)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return convert(args[0], value, field)
    if origin is typing.Literal:
        if not any(value == a and type(value) is type(a) for a in args):
            raise TypeMismatchError(field, f"must be one of {', '.join(map(json.dumps, args))}, not {_brief(value)}")
        return value
    if origin in (typing.Union, builtin_types.UnionType):
        return _convert_union(args, value, field)
    if hasattr(hint, "__supertype__"):
        return convert(hint.__supertype__, value, field)
    if hint in _SCALARS:
        return _convert_scalar(hint, value, field)
    return _convert_class(origin or hint, args, hint, value, field)


def _convert_scalar(hint: Any, value: Any, field: str) -> Any:
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint is decimal.Decimal and type(value) in (int, float):
        value = repr(value)
    wanted = str if hint in _FROM_TEXT else hint
    if type(value) is not wanted:
        raise TypeMismatchError(field, f"must be {_JSON_NAMES.get(wanted, wanted)}, not {_brief(value)}")
    if hint not in _FROM_TEXT:
        return value
    try:
        return _FROM_TEXT[hint](value)
    except (ValueError, decimal.InvalidOperation):
        raise TypeMismatchError(field, f"is no {hint.__name__}: {_brief(value)}") from None


def _convert_union(options: tuple[Any, ...], value: Any, field: str) -> Any:
    errors = []
    for option in options:
        try:
            return convert(option, value, field)
        except TypeMismatchError as error:
            errors.append(error)
    # The error that got deepest into the value is about the option that was meant.
    deepest = max(errors, key=lambda e: len(e.field))
    if deepest.field != field:
        raise deepest
    raise TypeMismatchError(field, " or ".join(dict.fromkeys(e.message.split(", not ")[0] for e in errors)))


def _convert_class(kind: Any, args: tuple[Any, ...], hint: Any, value: Any, field: str) -> Any:
    if not isinstance(kind, type):
        return value
    if issubclass(kind, enum.Enum):
        for member in kind:
            if member.value == value and type(member.value) is type(value):
                return member
        allowed = ", ".join(json.dumps(m.value) for m in kind)
        raise TypeMismatchError(field, f"must be one of {allowed}, not {_brief(value)}")
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(hint):
        fields = _convert_fields(kind, value, field)
        return kind(**fields) if dataclasses.is_dataclass(kind) else fields
    if issubclass(kind, Mapping):
        item = args[1] if args else Any
        return {k: convert(item, v, f"{field}.{k}") for k, v in _expect(dict, value, field).items()}
    if issubclass(kind, Sequence | AbstractSet) and not issubclass(kind, str | bytes):
        return _convert_items(kind, args, _expect(list, value, field), field)
    return value


def _convert_items(kind: type, args: tuple[Any, ...], items: list[Any], field: str) -> Any:
    hints = [args[0] if args else Any] * len(items)
    if issubclass(kind, tuple) and args and args[-1] is not Ellipsis:
        if len(items) != len(args):
            raise TypeMismatchError(field, f"must have {len(args)} items, not {len(items)}")
        hints = list(args)
    made = [convert(h, v, f"{field}[{i}]") for i, (h, v) in enumerate(zip(hints, items, strict=True))]
    target = next((t for t in (tuple, frozenset, set) if issubclass(kind, t)), None)
    if target is None and issubclass(kind, AbstractSet):
        target = set
    return target(made) if target else made


def _convert_fields(kind: Any, value: Any, field: str) -> dict[str, Any]:
    given = _expect(dict, value, field)
    fields, required = _fields(kind)
    for name in sorted(required - given.keys()):
        raise TypeMismatchError(f"{field}.{name}", "is required but missing")
    for name in given:
        if name not in fields:
            raise TypeMismatchError(f"{field}.{name}", f"there is no such field; known: {', '.join(fields)}")
    return {name: convert(fields[name], v, f"{field}.{name}") for name, v in given.items()}


def _expect(kind: type, value: Any, field: str) -> Any:
    if not isinstance(value, kind):
        raise TypeMismatchError(field, f"must be {_JSON_NAMES[kind]}, not {_brief(value)}")
    return value


def _brief(value: Any) -> str:
    """What a value is, without showing much of it: inputs may be confidential."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


def _pydantic_adapter(hint: Any) -> Any:
    annotated = typing.get_origin(hint) is typing.Annotated
    if not annotated and not hasattr(hint, "__pydantic_core_schema__"):
        return None
    try:
        from pydantic import TypeAdapter  # noqa: PLC0415  only the robot's own environment may have it
    except ImportError:
        return None
    return TypeAdapter(hint)


def _by_pydantic(adapter: Any, value: Any, field: str) -> Any:
    from pydantic import ValidationError  # noqa: PLC0415  present, or there were no adapter

    try:
        return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
        raise TypeMismatchError(field + path, first["msg"]) from None


def is_json(value: Any) -> bool:
    """Whether a value is JSON as it is."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def result_json(value: Any) -> str:
    """A result as JSON text. Raises TypeError or ValueError saying what cannot be converted."""
    text = json.dumps(value, default=_to_json, allow_nan=False, ensure_ascii=False)
    text.encode()  # a lone surrogate is no text
    return text


def _to_json(value: Any) -> Any:  # noqa: PLR0911  one line a kind of type
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | pathlib.PurePath | uuid.UUID):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, AbstractSet):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} cannot become JSON")
