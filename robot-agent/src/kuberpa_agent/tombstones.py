from pathlib import Path
from typing import Final

_GENERATION: Final = 5000


class Tombstones:
    """Names of the last 5,000 to 10,000 forgotten runs, so that a late repetition of their start is refused.

    Two files take turns: when one is full the other is emptied. Not fsynced: after a power cut the last few
    are unknown, and by then the panel has fenced their tokens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._old: set[str] = set()
        self._new: set[str] = set()

    def load(self) -> None:
        """Read both files."""
        self._old, self._new = (self._read(suffix) for suffix in (".old", ".new"))

    def has(self, name: str) -> bool:
        """Whether the run is remembered."""
        return name in self._new or name in self._old

    def add(self, name: str) -> None:
        """Remember a run."""
        if len(self._new) >= _GENERATION:
            self._file(".new").replace(self._file(".old"))
            self._old, self._new = self._new, set()
        self._new.add(name)
        with self._file(".new").open("a", encoding="ascii") as file:
            file.write(name + "\n")

    def _file(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _read(self, suffix: str) -> set[str]:
        try:
            return set(self._file(suffix).read_text(encoding="ascii").splitlines())
        except FileNotFoundError:
            return set()
