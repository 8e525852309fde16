"""What changed between two projections, as RFC 6902 has it. Parts that are identical are not looked into."""

from collections.abc import Mapping
from typing import Any, Final

import jsonpatch

from kuberpa.treepath import path_of

BRANCHES: Final = 3
"""Section, namespace, object: above this depth are only maps whose keys come and go."""

Operation = dict[str, Any]


def difference(old: Any, new: Any, branches: int = BRANCHES, steps: tuple[str, ...] = ()) -> list[Operation]:
    """Operations that make the new one of the old one. `branches`: how many levels above the objects they stand."""
    if old is new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping) and branches > 0:
        return _branches(old, new, branches - 1, steps)
    prefix = _pointer(steps)
    if type(old) is not type(new) or not isinstance(new, dict | list):
        return [] if old == new and type(old) is type(new) else [{"op": "replace", "path": prefix, "value": new}]
    return [_below(operation, prefix) for operation in jsonpatch.make_patch(old, new).patch]


def _branches(old: Mapping[str, Any], new: Mapping[str, Any], branches: int, steps: tuple[str, ...]) -> list[Operation]:
    found: list[Operation] = [{"op": "remove", "path": _pointer((*steps, key))} for key in old.keys() - new.keys()]
    for key, part in new.items():
        place = (*steps, key)
        if key not in old:
            found.append({"op": "add", "path": _pointer(place), "value": part})
        else:
            found += difference(old[key], part, branches, place)
    return found


def _below(operation: Operation, prefix: str) -> Operation:
    moved: Operation = {key: prefix + operation[key] for key in ("path", "from") if key in operation}
    return {**operation, **moved}


def _pointer(steps: tuple[str, ...]) -> str:
    return f"/{path_of(steps)}" if steps else ""
