"""Payloads against a queue's JSON Schema, by the reference implementation."""

from collections.abc import Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from kuberpa.queueing import FieldProblem, QueueError, QueueErrorCode
from kuberpa_panel.language import _

MAX_FINDINGS: Final = 20
MESSAGE_MAX: Final = 500
NO_REGISTRY: Final[Registry[Any]] = Registry()
"""Knows nothing and fetches nothing: a reference to elsewhere does not make the panel call an address."""


def problem_of(schema: Mapping[str, Any]) -> str:
    """What is wrong with a schema itself; empty when it can be used."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = ".".join(["spec.payloadSchema", *map(str, error.absolute_path)])
        return f"{path}: {error.message[:MESSAGE_MAX]}"
    except RecursionError:
        return _("spec.payloadSchema: is nested too deeply")
    return ""


def require(schema: dict[str, Any] | None, payload: dict[str, Any]) -> None:
    """Raises QueueError naming each field that does not match."""
    if schema is None:
        return
    validator = _validator(schema)
    try:
        found = sorted(validator.iter_errors(payload), key=lambda error: error.json_path)[:MAX_FINDINGS]
    except (Unresolvable, RecursionError) as error:
        raise QueueError(
            QueueErrorCode.UNAVAILABLE,
            _("spec.payloadSchema cannot be applied: %(error)s", error=str(error)[:MESSAGE_MAX]),
        ) from None
    if found:
        errors = tuple(
            FieldProblem(
                field=".".join(["payload", *map(str, error.absolute_path)]), message=error.message[:MESSAGE_MAX]
            )
            for error in found
        )
        raise QueueError(QueueErrorCode.SCHEMA_VIOLATION, _("The payload does not match spec.payloadSchema."), errors)


_validators: dict[int, tuple[dict[str, Any], Draft202012Validator]] = {}
_VALIDATORS_MAX: Final = 1000


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    """One for each schema object: the watch cache keeps the same one until the queue changes."""
    known = _validators.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    if problem := problem_of(schema):
        raise QueueError(
            QueueErrorCode.UNAVAILABLE, _("The queue's schema cannot be used: %(problem)s", problem=problem)
        )
    if len(_validators) >= _VALIDATORS_MAX:
        _validators.clear()
    validator = Draft202012Validator(schema, registry=NO_REGISTRY)
    _validators[id(schema)] = (schema, validator)
    return validator
