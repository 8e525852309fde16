"""Lists that fit into memory, a page at a time."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from pydantic import Field

from kuberpa.model import Model

R = TypeVar("R")


class ListQuery(Model):
    """What to list: `text` is found in any word of a row, `page` counts from 1."""

    namespace: str = Field("", max_length=63)
    text: str = Field("", max_length=200)
    page: int = Field(1, ge=1, le=100_000)
    size: int = Field(50, ge=1, le=500)


class Paged(NamedTuple, Generic[R]):
    """One page, and how many there are."""

    items: Sequence[R]
    total: int
    page: int
    pages: int


def paged(rows: Sequence[R], query: ListQuery) -> Paged[R]:
    """The page that a query asks for, the last one if there are not so many."""
    pages = max(1, -(-len(rows) // query.size))
    number = min(query.page, pages)
    start = (number - 1) * query.size
    return Paged(rows[start : start + query.size], len(rows), number, pages)


def mentions(text: str, *fields: str) -> bool:
    """Whether every word of the text is somewhere in the fields."""
    haystack = " ".join(fields).casefold()
    return all(word in haystack for word in text.casefold().split())
