from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from kuberpa.model import Model
from kuberpa.schema import at, structural, walk


class Colour(StrEnum):
    RED = "Red"


class Inner(Model):
    """Inner's own words."""

    size: int = 3
    note: str = ""


class Outer(Model):
    optional: Annotated[Inner | None, Field(description="The field's words.")] = None
    inner: Inner = Inner()
    bare: Inner
    colour: Colour = Colour.RED
    one: Literal["only"] = "only"
    names: tuple[str, ...] = ()
    anything: Any = None
    free: dict[str, Any] = {}
    labels: dict[str, str] = {}


class TwoTypes(Model):
    value: int | str = 0


def test_an_optional_object_has_the_objects_schema_and_the_fields_description() -> None:
    optional = structural(Outer)["properties"]["optional"]
    assert optional["type"] == "object"
    assert optional["description"] == "The field's words."
    assert "default" not in optional


def test_an_object_with_defaults_inside_defaults_to_an_empty_one() -> None:
    assert structural(Outer)["properties"]["inner"]["default"] == {}
    assert structural(Outer)["properties"]["inner"]["properties"]["size"]["default"] == 3


def test_empty_texts_lists_and_maps_are_not_spelled_out_as_defaults() -> None:
    properties = structural(Outer)["properties"]
    assert "default" not in properties["inner"]["properties"]["note"]
    assert "default" not in properties["names"]
    assert "default" not in properties["labels"]
    assert properties["colour"]["default"] == "Red"


def test_without_defaults_nothing_has_one() -> None:
    assert not any("default" in part for _, part in walk(structural(Outer, defaults=False)))


def test_only_fields_without_default_are_required() -> None:
    assert structural(Outer)["required"] == ["bare"]


def test_free_form_is_said_the_structural_way() -> None:
    properties = structural(Outer)["properties"]
    assert properties["anything"] == {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
    assert properties["free"]["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in properties["free"]


def test_nothing_is_left_that_structural_schemas_do_not_know() -> None:
    for path, part in walk(structural(Outer)):
        assert not {"$ref", "$defs", "anyOf", "allOf", "title", "const"} & part.keys(), path


def test_a_field_of_two_types_is_refused() -> None:
    with pytest.raises(ValueError, match="one type"):
        structural(TwoTypes)


def test_a_path_leads_to_fields_and_items() -> None:
    schema = structural(Outer)
    assert at(schema, "inner.size")["type"] == "integer"
    assert at(schema, "names[]")["type"] == "string"
    with pytest.raises(KeyError):
        at(schema, "nowhere")
