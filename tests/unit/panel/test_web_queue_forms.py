from typing import Any

import pytest

from kuberpa_panel.api.problems import FieldError, InvalidProblem
from kuberpa_panel.web.queue_forms import MAX_FIELDS, PREFIX, ItemForm, fields_of, payload_of

SCHEMA: dict[str, Any] = {
    "required": ["number"],
    "properties": {
        "count": {"type": "integer"},
        "kind": {"enum": ["a", 1]},
        "number": {"type": "string"},
        "paid": {"type": "boolean"},
        "rest": {"type": ["object", "null"]},
    },
}
FIELDS = fields_of(SCHEMA, ("number",))


def typed(**values: str) -> ItemForm:
    return ItemForm({PREFIX + name: value for name, value in values.items()})


def test_each_property_has_the_field_that_suits_it_and_required_ones_come_first() -> None:
    kinds = [(each.name, each.kind, each.required, each.secret) for each in FIELDS]
    assert kinds == [
        ("number", "text", True, True),
        ("count", "number", False, False),
        ("kind", "choice", False, False),
        ("paid", "choice", False, False),
        ("rest", "json", False, False),
    ]
    assert FIELDS[2].choices == ('"a"', "1")


def test_text_stays_text_and_everything_else_is_json() -> None:
    form = typed(number="0012", count="7", kind="1", paid="true", rest='{"a": [1]}')
    assert payload_of(FIELDS, form) == (
        {"number": "0012", "count": 7, "kind": 1, "paid": True, "rest": {"a": [1]}},
        {},
    )


def test_what_is_left_empty_is_left_out_and_missed_where_it_is_required() -> None:
    assert payload_of(FIELDS, typed(count=" ")) == ({}, {"p.number": "Is required: string."})


@pytest.mark.parametrize("text", ["much", "NaN", "[", "[" * 100_000])
def test_a_value_that_is_no_json_is_named_at_its_field(text: str) -> None:
    _, errors = payload_of(FIELDS, typed(number="1", rest=text))
    assert list(errors) == ["p.rest"]


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"properties": {}},
        {"properties": {"a": 1}},
        {"properties": [], "type": 7},
        {"properties": {"a": {"anyOf": 1}}},
        {"properties": {f"f{number}": {} for number in range(MAX_FIELDS + 1)}},
    ],
)
def test_a_schema_that_makes_no_form_leaves_json(schema: Any) -> None:
    assert fields_of(schema, ()) == ()
    form = ItemForm(payload='{"a": 1}')
    assert payload_of((), form) == ({"a": 1}, {})


def test_a_refusal_is_put_at_its_field_and_the_rest_above_the_form() -> None:
    errors = (
        FieldError("payload.rest.a", "is wrong"),
        FieldError("reference", "is taken"),
        FieldError("payload", "has too many properties"),
    )
    form = typed(number="1").with_problem(InvalidProblem("no", errors=errors), ("number", "rest"))
    assert form.errors == {
        "p.rest": "is wrong",
        "reference": "is taken",
        "form": "payload: has too many properties",
    }
    assert form.values == {"p.number": "1"}
