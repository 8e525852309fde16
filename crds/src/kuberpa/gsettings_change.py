"""How GSettings are changed: one place of one object, at the version that was read, named by CR and field."""

import json
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from kuberpa.gsettings import MAX_CUSTOM_BYTES, SETTINGS_NAME, Settings
from kuberpa.model import Model
from kuberpa.payload import Output
from kuberpa.treepath import EditError, EditOp, edited, find

CUSTOM: Final = "custom"
SETTINGS: Final = "settings"


class Edit(Model):
    """What to do to a place of the tree."""

    op: Annotated[
        EditOp,
        Field(description="set a value, append it to a list, plus: add it by `+`, delete what is there."),
    ] = EditOp.SET
    value: Annotated[Output, Field(description="The value, for all but delete.")] = None
    resource_version: Annotated[
        str, Field(max_length=64, description="Only if the object has this resourceVersion; If-Match says the same.")
    ] = ""


class Place(Model):
    """A place of the tree that may be changed, as a field of a CR."""

    namespace: str
    name: str
    section: str
    steps: tuple[str, ...]

    @property
    def field(self) -> str:
        """The field as kubectl names it."""
        return ".".join(["spec", self.section, *self.steps])


class Changed(Model):
    """A change that was made: which field of which CR, and what was and is there."""

    kind: str = "GSettings"
    namespace: str
    name: str
    field: str
    resource_version: str
    old: Any = None
    new: Any = None


class ChangeError(Exception):
    """A change that cannot be made; `field` is the CR's, the message says what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


def place_of(steps: tuple[str, ...], own_namespace: str) -> Place:
    """Which field of which object a path of the tree is. Raises ChangeError for what is not editable there.

    custom/NAMESPACE/NAME/… is spec.custom of that GSettings; settings/… is spec.settings of the one that counts.
    """
    match steps:
        case ("custom", namespace, name, *rest):
            return Place(namespace=namespace, name=name, section=CUSTOM, steps=tuple(rest))
        case ("settings", *rest):
            return Place(namespace=own_namespace, name=SETTINGS_NAME, section=SETTINGS, steps=tuple(rest))
        case _:
            raise ChangeError(
                "/".join(steps) or "the root",
                "is not editable here: custom/NAMESPACE/NAME/… and settings/… are; objects by their own functions",
            )


def changed_part(spec: dict[str, Any], place: Place, edit: Edit) -> tuple[dict[str, Any], Any, Any]:
    """The section as it will be, and what was and will be at the place. Raises ChangeError."""
    part = spec.get(place.section) or {}
    try:
        fresh = edited(part, place.steps, edit.op, edit.value)
    except EditError as error:
        raise ChangeError(place.field, str(error)) from error
    if place.section == SETTINGS:
        _check_settings(fresh)
    elif (size := len(json.dumps(fresh))) > MAX_CUSTOM_BYTES:
        raise ChangeError("spec.custom", f"would have {size} bytes; at most {MAX_CUSTOM_BYTES} are allowed")
    return fresh, _at(part, place.steps), _at(fresh, place.steps)


def _at(tree: Any, steps: tuple[str, ...]) -> Any:
    try:
        return find(tree, steps)
    except LookupError:
        return None


def _check_settings(tree: dict[str, Any]) -> None:
    try:
        known = Settings.of(tree).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ChangeError(".".join(["spec", SETTINGS, *map(str, first["loc"])]), first["msg"]) from error
    _check_known(tree, known, ("spec", SETTINGS))


def _check_known(tree: dict[str, Any], known: dict[str, Any], place: tuple[str, ...]) -> None:
    """A misspelt setting would be dropped in silence."""
    for key, part in tree.items():
        if key not in known:
            names = ", ".join(sorted(known))
            raise ChangeError(".".join((*place, key)), f"there is no such setting; here are {names}")
        if isinstance(part, dict) and isinstance(known[key], dict):
            _check_known(part, known[key], (*place, key))
