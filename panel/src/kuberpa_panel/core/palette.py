"""What the command palette finds: pages, actions, and objects by their names, whatever keyboard layout was on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

LATIN: Final = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`"
CYRILLIC: Final = "йцукенгшщзхъфывапролджэячсмитьбюё"
_TO_CYRILLIC: Final = str.maketrans(LATIN, CYRILLIC)
_TO_LATIN: Final = str.maketrans(CYRILLIC, LATIN)
SHOWN: Final = 30
OF_A_KIND: Final = 8

Group = Literal["page", "action", "robot", "fleet", "host", "queue", "item", "schedule", "calendar", "activity"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to find. `words` are other names of it; `post` is where a form goes for what is done at once."""

    group: Group
    title: str
    href: str
    sub: str = ""
    words: str = ""
    post: str = ""
    state: str = ""


def spellings(text: str) -> tuple[str, ...]:
    """The text as it was typed, and as the same keys would have written it in the other layout."""
    plain = " ".join(text.casefold().split())
    return tuple(dict.fromkeys((plain, plain.translate(_TO_LATIN), plain.translate(_TO_CYRILLIC))))


def score(entry: Entry, wanted: Sequence[str]) -> int:
    """How well one of the spellings names it: 0 not at all, the more the better."""
    return max(_score(entry, text.split()) for text in wanted)


def _score(entry: Entry, tokens: list[str]) -> int:
    title = entry.title.casefold()
    whole = " ".join(tokens)
    if title == whole:
        return 100
    if title.startswith(whole):
        return 80
    haystack = f"{title} {entry.sub} {entry.words}".casefold()
    if not all(token in haystack for token in tokens):
        return 0
    starts = {word[: len(token)] for token in tokens for word in _words(haystack)}
    return 60 if all(token in starts for token in tokens) else 30


def _words(text: str) -> list[str]:
    for mark in "-_./:":
        text = text.replace(mark, " ")
    return text.split()


def choose(entries: Iterable[Entry], text: str) -> list[Entry]:
    """The best of them, few of each kind; of equals the shorter name, then by name."""
    wanted = spellings(text)
    found = [(points, entry) for entry in entries if (points := score(entry, wanted))]
    found.sort(key=lambda each: (-each[0], len(each[1].title), each[1].title))
    counts: dict[str, int] = {}
    chosen = []
    for _, entry in found:
        counts[entry.group] = counts.get(entry.group, 0) + 1
        if counts[entry.group] <= OF_A_KIND:
            chosen.append(entry)
    return chosen[:SHOWN]
