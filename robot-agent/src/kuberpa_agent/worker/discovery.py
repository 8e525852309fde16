"""Finds the definitions that installed packages offer: entry points of the group `kuberpa.activities`.

An entry point names a module, whose `@activity` functions register themselves, or one function, which is
registered under the entry point's name if it has no decorator:

    [project.entry-points."kuberpa.activities"]
    bank = "bank_robot.activities"
"""

import inspect
import traceback
from importlib import metadata
from typing import Any, Final

from kuberpa_agent.sdk.registry import NEED_SESSION, REGISTRY, register
from kuberpa_agent.worker import command, signature

GROUP: Final = "kuberpa.activities"
_MAX_ERROR_CHARS: Final = 2000


def load(*, builtin: bool) -> list[str]:
    """Register everything; returns what failed, one text an entry point."""
    if builtin:
        from kuberpa_agent.builtin import files, processes, session, windows  # noqa: F401, PLC0415  importing registers them

        return []
    errors = []
    for point in metadata.entry_points(group=GROUP):
        try:
            found = point.load()
            if not inspect.ismodule(found) and found not in REGISTRY.values():
                register(found, point.name)
        except (Exception, SystemExit):  # noqa: BLE001  a package's import may raise anything
            text = traceback.format_exc()[-_MAX_ERROR_CHARS:]
            errors.append(f"entry point {point.name} = {point.value}: {text}")
    return errors


def describe(*, builtin: bool) -> list[dict[str, Any]]:
    """Every definition as JSON, see `signature.describe`."""
    functions = {**REGISTRY, **(command.SIGNATURES if builtin else {})}
    kinds = dict.fromkeys(command.SIGNATURES, "command")
    return [
        {
            **signature.describe(name, function),
            "kind": kinds.get(name, "function"),
            "needsSession": name in NEED_SESSION,
        }
        for name, function in sorted(functions.items())
    ]
