"""JSONPath (RFC 9535) over the tree, bounded: a query is a request of anybody who may see something."""

from dataclasses import dataclass
from typing import Any, Final

from jsonpath import JSONPathEnvironment, JSONPathError

from kuberpa_panel.language import _

MAX_QUERY: Final = 512
MAX_DESCENTS: Final = 1
"""Each looks at the whole tree, within another one at the whole tree for each node of it."""
MAX_NODES: Final = 10_000

_ENVIRONMENT: Final = JSONPathEnvironment(strict=True)
for _name in ("match", "search"):  # regular expressions can take for ever
    _ENVIRONMENT.function_extensions.pop(_name, None)


class QueryError(Exception):
    """The query is wrong; the message says how."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node that a query selects."""

    path: str
    """Normalised, as RFC 9535 writes it."""
    value: Any


def select(tree: Any, text: str) -> tuple[Node, ...]:
    """The nodes of a query. Raises QueryError."""
    if len(text) > MAX_QUERY:
        raise QueryError(_("has %(size)s characters; at most %(limit)s are allowed", size=len(text), limit=MAX_QUERY))
    if text.count("..") > MAX_DESCENTS or text.count("$") > 1:
        raise QueryError(_("must have at most one '..' and one '$': each looks at the whole tree"))
    try:
        query = _ENVIRONMENT.compile(text)
        found = []
        for match in query.finditer(tree):
            found.append(Node(match.path, match.obj))
            if len(found) > MAX_NODES:
                raise QueryError(
                    _("selects more than %(limit)s nodes: narrow it, or ask below a path", limit=MAX_NODES)
                )
    except JSONPathError as error:
        raise QueryError(_("is no JSONPath query: %(error)s", error=str(error).splitlines()[0])) from error
    except RecursionError as error:
        raise QueryError(_("is nested too deep")) from error
    return tuple(found)
