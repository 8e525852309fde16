"""Paths of the tree: steps with a slash between; as in a JSON Pointer, ~1 stands for a slash and ~0 for a tilde."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from enum import StrEnum
from typing import Any, Final

MAX_PATH: Final = 2048


class NoSuchPathError(LookupError):
    """There is nothing at this path, or nothing that may be seen; the message says where the path ends."""


def steps_of(path: str) -> tuple[str, ...]:
    """The steps of a path; none for the root."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in path.strip("/").split("/") if step)


def path_of(steps: Sequence[str]) -> str:
    """The other way round."""
    return "/".join(step.replace("~", "~0").replace("/", "~1") for step in steps)


def find(tree: Any, steps: Sequence[str]) -> Any:
    """The part of a tree. Raises NoSuchPathError."""
    for number, step in enumerate(steps):
        match tree:
            case Mapping() if step in tree:
                tree = tree[step]
            case list() if step.isdecimal() and int(step) < len(tree):
                tree = tree[int(step)]
            case _:
                place = path_of(steps[:number]) or "the root"
                raise NoSuchPathError(f"There is no {step!r} in {place}, or you may not see it.")
    return tree


def matches(tree: Any, text: str, most: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Places whose key or value has this text in it, whatever its case, `most` at most, the shallow ones first."""
    wanted, found = text.casefold(), 0
    level: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while level:
        deeper = []
        for steps, node in level:
            for key, part in children(node):
                place = (*steps, key)
                leaf = not isinstance(part, Mapping | list)
                if wanted in key.casefold() or (leaf and wanted in str(part).casefold()):
                    yield place, part
                    found += 1
                    if found == most:
                        return
                if not leaf:
                    deeper.append((place, part))
        level = deeper


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """Keys and parts of a node."""
    match node:
        case Mapping():
            yield from ((str(key), part) for key, part in node.items())
        case list():
            yield from ((str(number), part) for number, part in enumerate(node))


class EditOp(StrEnum):
    """What may be done to a place of a tree."""

    SET = "set"
    APPEND = "append"
    PLUS = "plus"
    DELETE = "delete"


class EditError(Exception):
    """An edit that is not possible; the message says what would be."""


def edited(tree: dict[str, Any], steps: Sequence[str], op: EditOp, value: Any = None) -> dict[str, Any]:
    """A copy of the tree in which one place is another; objects on the way there are made. Raises EditError.

    set puts a value in, append adds it to a list, plus adds it by `+` (numbers, texts, lists), delete takes it out.
    """
    if not steps:
        return _whole(tree, op, value)
    copy: dict[str, Any] = deepcopy(tree)
    parent: Any = copy
    for number, step in enumerate(steps[:-1]):
        is_object = isinstance(parent, dict)
        parent = parent.setdefault(step, {}) if is_object else parent[_index(parent, steps[: number + 1])]
    if isinstance(parent, dict):
        key: Any = steps[-1]
        present = key in parent
    else:
        key, present = _index(parent, steps), True
    _apply(parent, key, steps, op, value, present=present)
    return copy


def _whole(tree: dict[str, Any], op: EditOp, value: Any) -> dict[str, Any]:
    match op:
        case EditOp.SET if isinstance(value, dict):
            return deepcopy(value)
        case EditOp.DELETE:
            return {}
        case EditOp.PLUS if isinstance(value, dict):
            return {**deepcopy(tree), **value}
        case _:
            raise EditError("the root is an object: set it to one, or name a path below it")


def _index(node: Any, steps: Sequence[str]) -> int:
    if isinstance(node, list):
        if steps[-1].isdecimal() and int(steps[-1]) < len(node):
            return int(steps[-1])
        raise EditError(f"{path_of(steps)}: the list has {len(node)} entries, counted from 0; append makes another")
    raise EditError(f"{path_of(steps[:-1])} is a value, so nothing can stand below it: set another path")


def _apply(parent: Any, key: Any, steps: Sequence[str], op: EditOp, value: Any, *, present: bool) -> None:  # noqa: PLR0913  one place and what is done to it
    place = path_of(steps)
    match op:
        case EditOp.SET:
            parent[key] = value
        case EditOp.DELETE:
            if not present:
                raise EditError(f"{place}: there is nothing to delete")
            del parent[key]
        case EditOp.APPEND:
            if present and not isinstance(parent[key], list):
                raise EditError(f"{place}: is no list, so nothing can be appended; set it to one first")
            parent[key] = [*(parent[key] if present else ()), value]
        case EditOp.PLUS:
            parent[key] = _sum(parent[key], value, place) if present else value


def _sum(old: Any, value: Any, place: str) -> Any:
    numbers = isinstance(old, int | float) and isinstance(value, int | float)
    if numbers or (type(old) is type(value) and isinstance(old, str | list)):
        return old + value
    if isinstance(old, dict) and isinstance(value, dict):
        return {**old, **value}
    raise EditError(f"{place}: {type(old).__name__} plus {type(value).__name__} is nothing; both must be of one type")
