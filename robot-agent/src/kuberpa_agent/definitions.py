from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kuberpa import wire
from kuberpa_agent.errors import InvalidArgumentsError
from kuberpa_agent.worker import signature
from kuberpa_agent.worker.signature import ArgumentError, Parameter


@dataclass(frozen=True)
class Known:
    """A definition, how its arguments are bound, and who runs it."""

    definition: wire.Definition
    order: tuple[Parameter, ...]
    kind: str
    """`command`: a program that the shim starts; `function`: Python."""
    builtin: bool

    @property
    def may_detach(self) -> bool:
        """Whether a process that it names outlives the run."""
        return self.builtin and self.definition.name == "process.start"


def known(described: Mapping[str, Any], *, builtin: bool) -> Known:
    """From what a worker says. Raises pydantic.ValidationError for what is no definition."""
    return Known(
        definition=wire.Definition(
            name=described["name"],
            description=described["description"],
            parameters=described["parameters"],
            needs_session=described.get("needsSession", False),
        ),
        order=tuple(Parameter(**p) for p in described["order"]),
        kind=described["kind"],
        builtin=builtin,
    )


def validate(target: Known, job: wire.Start) -> None:
    """Check a job's input against the definition. Raises InvalidArgumentsError naming the field."""
    args, kwargs = job.input.get("args"), job.input.get("kwargs")
    if unknown := sorted(job.input.keys() - {"args", "kwargs"}):
        raise InvalidArgumentsError(f"input.{unknown[0]}", "unknown; input has args (a list) and kwargs (an object)")
    if not isinstance(args, list | None):
        raise InvalidArgumentsError("input.args", "must be a list of positional arguments")
    if not isinstance(kwargs, dict | None):
        raise InvalidArgumentsError("input.kwargs", "must be an object of named arguments")
    wanted = {key: name for key, name in job.inject.to_json().items() if name}
    for key, name in wanted.items():
        if name not in {p.name for p in target.order}:
            raise InvalidArgumentsError(f"inject.{key}", f"the definition has no parameter {name!r}")
    if len(set(wanted.values())) < len(wanted):
        raise InvalidArgumentsError("inject.gsettings", "names the same parameter as inject.logger")
    injected = frozenset(wanted.values())
    try:
        given = signature.bind(target.order, args or [], kwargs or {}, injected)
    except ArgumentError as error:
        raise InvalidArgumentsError(error.field, error.message) from None
    for argument in given:
        _check(_schema(target, argument.parameter), argument)


def _schema(target: Known, parameter: str) -> Any:
    parameters = target.definition.parameters
    schema = parameters["properties"].get(parameter, parameters["additionalProperties"])
    if any(p.name == parameter and p.kind == signature.REST for p in target.order):
        return schema["items"]
    return schema


def _check(schema: Any, argument: signature.Argument) -> None:
    from jsonschema import Draft202012Validator, exceptions  # noqa: PLC0415  14 MB that an idle agent need not hold

    error = exceptions.best_match(Draft202012Validator(schema).iter_errors(argument.value))
    if error is not None:
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
        raise InvalidArgumentsError(argument.field + path, _words(error))


def _words(error: Any) -> str:
    """What would be right, and what kind of value came; not the value, which may be confidential or huge."""
    if error.validator == "type":
        wanted = error.validator_value
        options = wanted if isinstance(wanted, list) else [wanted]
        return f"must be of type {' or '.join(options)}, not {_type_name(error.instance)}"
    if error.validator == "anyOf":
        options = [str(s.get("type") or s) for s in error.validator_value]
        return f"must be of type {' or '.join(options)}, not {_type_name(error.instance)}"
    message: str = error.message
    return message[:500]


def _type_name(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
