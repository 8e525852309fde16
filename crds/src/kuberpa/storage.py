"""A robot's storage: one JSON document that outlives its activities, changed place by place."""

from typing import Annotated, Any

from pydantic import Field

from kuberpa.model import Instant, Model
from kuberpa.payload import Output
from kuberpa.treepath import MAX_PATH, EditOp

StoragePath = Annotated[str, Field(max_length=MAX_PATH, description="Steps with a slash between; empty: all of it.")]


class ReadStorage(Model):
    """Which part of the document."""

    path: StoragePath = ""


class ChangeStorage(Model):
    """What to do to a place of the document."""

    path: StoragePath = ""
    op: Annotated[
        EditOp, Field(description="set a value, append it to a list, plus: add it by `+`, delete what is there.")
    ] = EditOp.SET
    value: Annotated[Output, Field(description="The value, for all but delete.")] = None
    version: Annotated[
        int | None,
        Field(ge=0, le=2**53, description="Only if the document has this version; 0: only if there is none."),
    ] = None


class ReadGSettings(Model):
    """Which part of the tree."""

    path: StoragePath = ""


class GSettingsPart(Model):
    """A part of the tree."""

    found: bool
    value: Any = None


class Stored(Model):
    """A place of a robot's document, and what is known of the whole."""

    found: bool
    """Whether there is anything at the path."""
    value: Any = None
    version: int = 0
    """Grows by one with each change; 0: nothing was ever stored."""
    bytes: int = 0
    changed_at: Instant | None = None
    changed_by: str = ""
