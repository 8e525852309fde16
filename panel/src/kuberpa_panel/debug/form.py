"""What the form of the Debug page holds, as text, so that nothing typed is ever lost; and the spec that it means."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

from kuberpa.activity import MAX_INPUT_BYTES
from kuberpa_panel.api.problems import FieldError, InvalidProblem
from kuberpa_panel.language import _

FIELDS: Final = {
    "spec.robotRef": "target", "spec.robotSelector": "selector", "spec.def": "definition",
    "spec.timeoutSeconds": "timeout", "spec.retry.limit": "retries", "spec.priority": "priority",
}  # fmt: skip
"""Fields of the resource as the form calls them; whatever else is wrong is shown above the form."""
TEXTS: Final = ("definition", "by", "target", "space", "selector", "input", "timeout", "retries", "priority")
TICKS: Final = ("beside", "wait")
EXAMPLE: Final = '{"args": [], "kwargs": {"check": false}}'
_LABEL: Final = re.compile(
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
_VALUE: Final = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")


@dataclass(frozen=True, slots=True)
class DebugForm:
    """One form."""

    definition: str = ""
    by: str = "robot"
    """`robot`: target; `selector`: space and selector."""
    target: str = ""
    """namespace/name of the robot."""
    space: str = ""
    """Namespace in which the selector chooses."""
    selector: str = ""
    """key=value, …"""
    input: str = ""
    """JSON of the ActivityItem's input."""
    timeout: str = ""
    retries: str = "0"
    priority: str = "0"
    beside: bool = False
    wait: bool = False
    """Whether it waits for a debugger."""
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Mapping[str, str]) -> Self:
        """From what a browser sent, or a snippet holds; unknown names are left out."""
        found: dict[str, Any] = {key: str(data[key]) for key in TEXTS if data.get(key) is not None}
        found |= {key: str(data.get(key, "")) in {"true", "True", "on"} for key in TICKS}
        return cls(**found)

    def kept(self) -> dict[str, Any]:
        """What a snippet keeps."""
        return {key: value for key, value in asdict(self).items() if key != "errors"}

    @property
    def namespace(self) -> str:
        """Where the activity is to be."""
        return self.space if self.by == "selector" else self.target.partition("/")[0]

    @property
    def whither(self) -> str:
        """The robot, or the labels, in one word."""
        return self.selector if self.by == "selector" else self.target.partition("/")[2]

    def spec(self) -> dict[str, Any]:
        """The ActivityItem's spec. Raises InvalidProblem naming the form's fields."""
        errors: dict[str, str] = {}
        spec = self._target(errors)
        if not self.definition:
            errors["definition"] = _("Choose what to run.")
        spec |= {"def": self.definition, "input": _input(self.input, errors)}
        numbers = {name: _number(name, getattr(self, name), errors) for name in ("timeout", "retries", "priority")}
        if errors:
            raise InvalidProblem("", errors=tuple(FieldError(*each) for each in errors.items()))
        if self.beside:
            spec["async"] = True
        if self.wait:
            spec["debug"] = {}
        if numbers["priority"]:
            spec["priority"] = numbers["priority"]
        if numbers["retries"]:
            spec["retry"] = {"limit": numbers["retries"]}
        if numbers["timeout"] is not None:
            spec["timeoutSeconds"] = numbers["timeout"]
        return spec

    def with_problem(self, problem: InvalidProblem) -> Self:
        """The same input with each message at its field."""
        errors = {FIELDS.get(error.field, _short(error.field)): error.message for error in problem.errors}
        return replace(self, errors=errors or {"form": problem.detail})

    def _target(self, errors: dict[str, str]) -> dict[str, Any]:
        if self.by == "selector":
            if not self.space:
                errors["space"] = _("Choose the namespace whose robots may take it.")
            return {"robotSelector": {"matchLabels": labels_of(self.selector, errors)}}
        namespace, slash, robot = self.target.partition("/")
        if not (namespace and slash and robot):
            errors["target"] = _("Choose a robot.")
        return {"robotRef": {"name": robot}}


def form_of(namespace: str, spec: Mapping[str, Any], robot: str = "") -> DebugForm:
    """The form that means this spec. `robot`: who took it, where the spec names nobody."""
    named = (spec.get("robotRef") or {}).get("name") or ""
    labels = (spec.get("robotSelector") or {}).get("matchLabels") or {}
    by_labels = not named and bool(labels)
    return DebugForm(
        definition=str(spec.get("def", "")),
        by="selector" if by_labels else "robot",
        target=f"{namespace}/{named or robot}" if named or robot else "",
        space=namespace,
        selector=", ".join(f"{key}={value}" for key, value in labels.items()),
        input=json.dumps(spec.get("input") or {}, indent=2, ensure_ascii=False),
        timeout=str(spec.get("timeoutSeconds") or ""),
        retries=str((spec.get("retry") or {}).get("limit", 0)),
        priority=str(spec.get("priority") or 0),
        beside=bool(spec.get("async")),
        wait=spec.get("debug") is not None,
    )


def labels_of(text: str, errors: dict[str, str]) -> dict[str, str]:
    """`key=value, key=value` as labels."""
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not _LABEL.match(key) or not _VALUE.match(value):
            errors["selector"] = _(
                "%(part)s is not a label. It would be right like this: team=accounts, size=big", part=part[:80]
            )
            return {}
        found[key] = value
    if not found:
        errors.setdefault("selector", _("Name at least one label, like team=accounts."))
    return found


def _short(name: str) -> str:
    return "input" if name.startswith("spec.input") else name.removeprefix("spec.")


def _input(text: str, errors: dict[str, str]) -> dict[str, Any]:
    value = _json(text or "{}", errors)
    if value is None:
        return {}
    if not isinstance(value, dict):
        errors["input"] = _("Must be an object with args and kwargs, like %(example)s", example=EXAMPLE)
        return {}
    if unknown := sorted(set(value) - {"args", "kwargs"}):
        errors["input"] = _(
            "%(names)s: only args (a list) and kwargs (an object) belong here.", names=", ".join(unknown)[:80]
        )
    if not isinstance(value.get("args", []), list):
        errors["input"] = _("args must be a list, like %(example)s", example=EXAMPLE)
    if not isinstance(value.get("kwargs", {}), dict):
        errors["input"] = _("kwargs must be an object, like %(example)s", example=EXAMPLE)
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > MAX_INPUT_BYTES:
        errors["input"] = _("Too large: at most %(limit)s KiB of JSON are accepted.", limit=MAX_INPUT_BYTES // 1024)
    return {key: each for key, each in value.items() if each}


def _json(text: str, errors: dict[str, str]) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno, "why": error.msg, "example": EXAMPLE}
        errors["input"] = _(
            "Not JSON in line %(line)s, column %(column)s: %(why)s. It would be right like this: %(example)s", **where
        )
    except (ValueError, RecursionError) as error:
        errors["input"] = _("Not JSON: %(why)s. It would be right like this: %(example)s", why=error, example=EXAMPLE)
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _number(name: str, text: str, errors: dict[str, str]) -> int | None:
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        errors[name] = _("Must be a whole number, not %(text)s.", text=repr(text[:40]))
        return None
