from typing import Any, Final

from kuberpa_panel.queues import store

KNOWN_MAX: Final = 10_000

Name = tuple[str, str]
"""(namespace, queue)"""


class Numbers:
    """Under which number a queue's rows are kept. It never changes, so it is asked for once."""

    def __init__(self) -> None:
        self._numbers: dict[Name, int] = {}
        self._names: dict[int, Name] = {}

    def known(self, namespace: str, queue: str) -> int | None:
        """The number, if it was asked for before."""
        return self._numbers.get((namespace, queue))

    async def of(self, connection: Any, namespace: str, queue: str) -> int:
        """The number of a queue."""
        known = self._numbers.get((namespace, queue))
        if known is None:
            known = await store.queue_id(connection, namespace, queue)
            self._keep((namespace, queue), known)
        return known

    async def name(self, connection: Any, number: int) -> Name:
        """The queue of a number that stands in a row."""
        known = self._names.get(number)
        if known is None:
            row = await connection.fetchrow("SELECT namespace, name FROM queues WHERE id = $1", number)
            known = (row["namespace"], row["name"])
            self._keep(known, number)
        return known

    def _keep(self, name: Name, number: int) -> None:
        if len(self._numbers) >= KNOWN_MAX:
            self._numbers.clear()
            self._names.clear()
        self._numbers[name], self._names[number] = number, name
