import re
from collections.abc import Callable
from typing import Any, TypeVar, overload

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,252}")
_F = TypeVar("_F", bound=Callable[..., Any])

REGISTRY: dict[str, Callable[..., Any]] = {}
"""Definitions of this process by name, in order of registration."""
NEED_SESSION: set[str] = set()
"""Those that run only while the robot's graphical session is active."""


class DefinitionError(ValueError):
    """A definition cannot be registered; the message names it and says what would be right."""


@overload
def activity(function: _F) -> _F: ...
@overload
def activity(*, name: str | None = None, needs_session: bool = False) -> Callable[[_F], _F]: ...
def activity(
    function: _F | None = None, *, name: str | None = None, needs_session: bool = False
) -> _F | Callable[[_F], _F]:
    """Make a function, `def` or `async def`, a definition that ActivityItems can name.

    `name` defaults to the function's own. Annotated parameters are checked and converted from JSON before the
    call, the docstring is the description, a parameter annotated `logging.Logger` receives a logger. The
    result must be JSON-like; dataclasses, dates, decimals, paths and enums are converted. With `needs_session`
    ActivityItems wait until the robot's graphical session is active: neither locked nor without a screen.
    """
    if function is not None:
        register(function, name or function.__name__)
        return function

    def decorate(decorated: _F) -> _F:
        register(decorated, name or decorated.__name__)
        if needs_session:
            NEED_SESSION.add(name or decorated.__name__)
        return decorated

    return decorate


def register(function: Callable[..., Any], name: str) -> None:
    """Add a definition. Raises DefinitionError for a bad name or one that another function has."""
    if not callable(function):
        raise DefinitionError(f"definition {name!r}: {function!r} is not callable")
    if not _NAME.fullmatch(name):
        raise DefinitionError(
            f"definition {name!r}: a name begins with a letter or underscore, goes on with letters, digits, "
            "underscores, dots or hyphens, and has at most 253 characters"
        )
    other = REGISTRY.get(name)
    if other is not None and _origin(other) != _origin(function):
        raise DefinitionError(f"definition {name!r} is both {_origin(other)} and {_origin(function)}: rename one")
    REGISTRY[name] = function


def _origin(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
