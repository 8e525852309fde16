from typing import Any

import pytest

from kuberpa.treepath import EditError, EditOp, NoSuchPathError, edited, find, matches, path_of, steps_of

TREE: dict[str, Any] = {"limits": {"daily": 5, "names": ["acme", "umbrella"]}, "a/b": {"~": 1}}


@pytest.mark.parametrize("steps", [(), ("a",), ("a/b", "~"), ("~1", "/~0/"), ("x", "0")])
def test_a_path_says_its_steps(steps: tuple[str, ...]) -> None:
    assert steps_of(path_of(steps)) == steps


def test_parts_are_found_in_objects_and_lists() -> None:
    assert find(TREE, steps_of("limits/names/1")) == "umbrella"
    assert find(TREE, steps_of("a~1b/~0")) == 1
    assert find(TREE, ()) == TREE


@pytest.mark.parametrize("path", ["limits/weekly", "limits/names/2", "limits/names/-1", "limits/daily/x"])
def test_a_path_to_nothing_says_where_it_ends(path: str) -> None:
    with pytest.raises(NoSuchPathError, match=r"There is no '.*' in limits"):
        find(TREE, steps_of(path))


@pytest.mark.parametrize(
    ("op", "path", "value", "then"),
    [
        (EditOp.SET, "limits/daily", 7, 7),
        (EditOp.SET, "new/place", "x", "x"),
        (EditOp.SET, "limits/names/0", "ajax", "ajax"),
        (EditOp.APPEND, "limits/names", "x", ["acme", "umbrella", "x"]),
        (EditOp.APPEND, "fresh", 1, [1]),
        (EditOp.PLUS, "limits/daily", 2, 7),
        (EditOp.PLUS, "limits/names", ["x"], ["acme", "umbrella", "x"]),
        (EditOp.PLUS, "limits", {"weekly": 9}, {**TREE["limits"], "weekly": 9}),
        (EditOp.PLUS, "fresh", 2, 2),
    ],
)
def test_one_place_is_changed(op: EditOp, path: str, value: Any, then: Any) -> None:
    before = repr(TREE)
    assert find(edited(TREE, steps_of(path), op, value), steps_of(path)) == then
    assert repr(TREE) == before, "what was is not touched"


def test_what_is_deleted_is_gone() -> None:
    assert edited(TREE, ("limits", "daily"), EditOp.DELETE)["limits"] == {"names": ["acme", "umbrella"]}
    assert edited(TREE, (), EditOp.DELETE) == {}


@pytest.mark.parametrize(
    ("op", "path", "value", "message"),
    [
        (EditOp.APPEND, "limits/daily", 1, "limits/daily: is no list"),
        (EditOp.PLUS, "limits/daily", "x", "int plus str"),
        (EditOp.DELETE, "limits/weekly", None, "nothing to delete"),
        (EditOp.SET, "limits/daily/x", 1, "limits/daily is a value"),
        (EditOp.SET, "limits/names/9", 1, "the list has 2 entries"),
        (EditOp.SET, "", 5, "the root is an object"),
    ],
)
def test_an_edit_that_is_not_possible_says_why(op: EditOp, path: str, value: Any, message: str) -> None:
    with pytest.raises(EditError, match=message):
        edited(TREE, steps_of(path), op, value)


def test_texts_are_found_in_keys_and_values_whatever_their_case() -> None:
    assert [path_of(place) for place, _ in matches(TREE, "ACME", 10)] == ["limits/names/0"]
    assert [path_of(place) for place, _ in matches(TREE, "a", 2)] == ["a~1b", "limits/daily"]
