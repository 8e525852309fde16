"""Finding a definition among those of all robots: by name, documentation, and names of parameters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kuberpa.wire import Definition

MOST: Final = 40


@dataclass(frozen=True, slots=True)
class Hit:
    """A definition, and the robots that have it."""

    definition: Definition
    robots: tuple[tuple[str, str], ...]
    """Namespaces and names."""

    @property
    def parameters(self) -> str:
        """`month, force=…`: what is required, and what may be left out."""
        required = set(self.definition.parameters.get("required") or ())
        names = self.definition.parameters.get("properties") or {}
        return ", ".join(name if name in required else f"{name}=…" for name in names)

    @property
    def summary(self) -> str:
        """First line of the documentation."""
        return self.definition.description.partition("\n")[0]


def search(known: Mapping[tuple[str, str], Iterable[Definition]], text: str) -> tuple[Hit, ...]:
    """Definitions in which every word of the text is found, those first whose name has it; at most MOST."""
    words = text.casefold().split()
    found: dict[str, tuple[Definition, list[tuple[str, str]]]] = {}
    for place in sorted(known):
        for definition in known[place]:
            if definition.name in found:
                found[definition.name][1].append(place)
            elif all(word in _haystack(definition) for word in words):
                found[definition.name] = (definition, [place])
    hits = [Hit(definition, tuple(places)) for definition, places in found.values()]
    return tuple(sorted(hits, key=lambda hit: _rank(hit.definition, words))[:MOST])


def _haystack(definition: Definition) -> str:
    names = definition.parameters.get("properties") or {}
    return " ".join((definition.name, definition.description, *names)).casefold()


def _rank(definition: Definition, words: list[str]) -> tuple[int, str]:
    name = definition.name.casefold()
    if not words or name == " ".join(words):
        return (0, name)
    begins = any(part.startswith(words[0]) for part in (name, *name.split(".")))
    return (1 if begins else 2 if all(word in name for word in words) else 3, name)
