"""A payload as a form: one field for each property of the queue's schema, or JSON where there is no schema."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kuberpa_panel.api.problems import Problem
from kuberpa_panel.language import _
from kuberpa_panel.queues import schemas
from kuberpa_panel.web.run import type_words

PREFIX: Final = "p."
"""Of the names of payload fields in the form."""
MAX_FIELDS: Final = 60
COMMON: Final = ("reference", "priority", "deadline", "deferUntil")


@dataclass(frozen=True, slots=True)
class FormField:
    """One field: `kind` is text, number, choice, switch or json."""

    name: str
    kind: str
    words: str
    description: str
    required: bool
    secret: bool
    choices: tuple[str, ...] = ()
    placeholder: str = ""


@dataclass(frozen=True, slots=True)
class ItemForm:
    """What was typed, as text, and what is wrong with it."""

    values: Mapping[str, str] = field(default_factory=dict)
    payload: str = "{}"
    as_json: bool = False
    key: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    def with_problem(self, problem: Problem, names: tuple[str, ...]) -> "ItemForm":
        """The same input with each message at its field; what has no field of its own stands above the form."""
        errors: dict[str, str] = {}
        rest = []
        for error in problem.errors:
            place = _place(error.field, names)
            if place:
                errors.setdefault(place, error.message)
            else:
                rest.append(f"{error.field}: {error.message}" if error.field else error.message)
        if rest or not errors:
            errors["form"] = "; ".join(rest) or problem.detail
        return ItemForm(self.values, self.payload, self.as_json, self.key, errors)


def _place(path: str, names: tuple[str, ...]) -> str:
    if path in {*COMMON, "defer_until"}:
        return "deferUntil" if path == "defer_until" else path
    if not path.startswith("payload"):
        return ""
    name = path.removeprefix("payload").lstrip(".").partition(".")[0]
    return PREFIX + name if name in names else "" if names else "payload"


def fields_of(schema: Mapping[str, Any] | None, secret: tuple[str, ...]) -> tuple[FormField, ...]:
    """The fields; none when the schema names no properties, or more than a form can have."""
    if not schema or schemas.problem_of(schema):
        return ()
    properties, required = schema.get("properties", {}), schema.get("required", ())
    if not 0 < len(properties) <= MAX_FIELDS:
        return ()
    fields = (
        _field(name, part if isinstance(part, dict) else {}, name in required, name in secret)
        for name, part in properties.items()
    )
    # the API server sorts properties by name, so their order in the manifest is lost
    return tuple(sorted(fields, key=lambda each: not each.required))


def _field(name: str, part: dict[str, Any], required: bool, secret: bool) -> FormField:
    kind = "json"
    choices: tuple[str, ...] = ()
    if isinstance(part.get("enum"), list):
        kind, choices = "choice", tuple(json.dumps(each, ensure_ascii=False) for each in part["enum"])
    elif part.get("type") == "boolean":
        kind, choices = "choice", ("true", "false")
    elif part.get("type") in ("integer", "number"):
        kind = "number"
    elif part.get("type") == "string":
        kind = "text"
    example = next(iter(part["examples"]), "") if isinstance(part.get("examples"), list) else part.get("default", "")
    words = str(example) if kind == "text" else json.dumps(example, ensure_ascii=False) if example != "" else ""
    description = str(part.get("description", "") or part.get("title", ""))
    return FormField(name, kind, type_words(part), description, required, secret, choices, words)


def payload_of(fields: tuple[FormField, ...], form: ItemForm) -> tuple[dict[str, Any], dict[str, str]]:
    """The payload, and what is wrong with which field. A field that is left empty is left out."""
    if form.as_json or not fields:
        return _json_payload(form.payload)
    payload: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for each in fields:
        text = form.values.get(PREFIX + each.name, "")
        if not text.strip():
            if each.required:
                errors[PREFIX + each.name] = _("Is required: %(words)s.", words=each.words)
            continue
        try:
            payload[each.name] = text if each.kind == "text" else _value(each, text)
        except (ValueError, RecursionError):
            errors[PREFIX + each.name] = _(
                "Must be %(words)s, as JSON, not %(text)r.", words=each.words, text=text[:40]
            )
    return payload, errors


def _value(each: FormField, text: str) -> Any:
    if each.kind == "number":
        text = text.strip().replace(",", ".")
    return json.loads(text, parse_constant=_refuse)


def _json_payload(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        found = json.loads(text or "{}", parse_constant=_refuse)
    except json.JSONDecodeError as error:
        return {}, {
            "payload": _(
                "Not JSON in line %(lineno)s, column %(colno)s: %(msg)s.",
                lineno=error.lineno,
                colno=error.colno,
                msg=error.msg,
            )
        }
    except (ValueError, RecursionError) as error:
        return {}, {"payload": f"Not JSON: {error}."}
    if not isinstance(found, dict):
        return {}, {"payload": _('Must be an object, for example {"number": "2026-117"}.')}
    return found, {}


def _refuse(name: str) -> None:
    raise ValueError(_("%(name)s is not a JSON number", name=name))
