"""Schedules and Calendars from a file, checked as the API server would check their fields."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from kuberpa.calendar import Calendar, CalendarSpec
from kuberpa.client import Body
from kuberpa.model import Model
from kuberpa.names import API_VERSION, GROUP
from kuberpa.schedule import Schedule
from kuberpa.schema import structural
from kuberpa_cli.work.exits import UsageError

MODELS: Final[dict[str, type[Model]]] = {"Schedule": Schedule, "Calendar": Calendar}


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: dates and times such as 20:00 stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o?[0-7]+)$"), list("-+0123456789")
)


@dataclass
class Manifests:
    """What a file holds of the two kinds, by name."""

    where: str
    schedules: dict[str, Schedule] = field(default_factory=dict)
    calendars: dict[str, CalendarSpec] = field(default_factory=dict)

    def schedule(self, name: str | None) -> Schedule:
        """The one of that name, or the only one. Raises UsageError."""
        known = ", ".join(self.schedules) or "none"
        if name is not None:
            if name not in self.schedules:
                raise UsageError(f"There is no Schedule {name} in {self.where}; there: {known}")
            return self.schedules[name]
        if len(self.schedules) != 1:
            raise UsageError(f"{self.where} has {len(self.schedules)} Schedules: name one of them; there: {known}")
        return next(iter(self.schedules.values()))


def read(path: str) -> Manifests:
    """All Schedules and Calendars of a file, `-` for stdin; other kinds are passed over. Raises UsageError."""
    where = "stdin" if path == "-" else path
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        bodies = list(_bodies(yaml.load_all(text, Loader=_Loader)))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is no YAML: {error}") from None
    found = Manifests(where)
    for body in bodies:
        kind, name = body.get("kind", ""), str(body.get("metadata", {}).get("name", ""))
        if kind not in MODELS or not str(body.get("apiVersion", API_VERSION)).startswith(f"{GROUP}/"):
            continue
        model = parse(MODELS[kind], body, f"{where}: {kind} {name}")
        if isinstance(model, Schedule):
            found.schedules[name] = model
        if isinstance(model, Calendar):
            found.calendars[name] = model.spec
    return found


def parse(model: type[Model], body: Body, where: str) -> Model:
    """A model of a manifest. Raises UsageError naming the field."""
    unknown = next(_unknown(structural(_spec_of(model)), body.get("spec"), "spec"), None)
    if unknown is not None:
        kind, parent = model.__name__.lower(), re.sub(r"\[[0-9]+\]", "", unknown.rpartition(".")[0])
        raise UsageError(f"{where}: {unknown}: there is no such field; kubectl explain {kind}.{parent} names them")
    try:
        return model.of(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {path}: {first['msg']}, not {first['input']!r:.80}") from None


def _bodies(documents: Any) -> Iterator[Body]:
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from (item for item in document.get("items", []) if isinstance(item, dict))
        elif isinstance(document, dict):
            yield document


def _spec_of(model: type[Model]) -> type[Model]:
    return model.model_fields["spec"].annotation  # type: ignore[return-value]  # the spec of every kind is a model


def _unknown(schema: Body, value: Any, path: str) -> Iterator[str]:
    """Paths of fields that the schema does not know."""
    if isinstance(value, dict) and "properties" in schema:
        for key, child in value.items():
            if key in schema["properties"]:
                yield from _unknown(schema["properties"][key], child, f"{path}.{key}")
            elif "x-kubernetes-preserve-unknown-fields" not in schema:
                yield f"{path}.{key}"
    if isinstance(value, list) and "items" in schema:
        for index, child in enumerate(value):
            yield from _unknown(schema["items"], child, f"{path}[{index}]")
