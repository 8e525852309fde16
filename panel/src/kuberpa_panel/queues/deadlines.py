"""What the deadlines of a backlog ask for, in a few points, whatever the number of items.

An item is finished in time when everything up to it in the queue's order is: `place` items of `t` seconds by its
deadline take place * t / (deadline - now) robots. Of all points (deadline, place) only those on the upper convex hull
can be the one that takes the most, whatever `now` is; so these are enough to decide by, now and later.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kuberpa.workqueue import DUE_MAX, DueItems
from kuberpa_panel.database.pool import Database

LOOKED_AT: Final = 10_000
"""Items in order; more than that are many robots' work whatever the deadlines."""


async def pressing(database: Database, number: int) -> tuple[DueItems, ...]:
    """The deadlines of a queue's ready items that matter."""
    async with database.connection() as connection:
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM queue_items WHERE queue_id = $1 AND ready AND deadline IS NOT NULL)", number
        ):
            return ()
        rows = await connection.fetch(
            "SELECT date_trunc('second', deadline) AS by, max(place)::integer AS place FROM (SELECT deadline, "
            "row_number() OVER (ORDER BY rank, id) AS place FROM queue_items WHERE queue_id = $1 AND ready "
            "ORDER BY rank, id LIMIT $2) AS line WHERE deadline IS NOT NULL GROUP BY 1 ORDER BY 1",
            number,
            LOOKED_AT,
        )
    return hull((row["by"], row["place"]) for row in rows)


def hull(points: Iterable[tuple[datetime, int]]) -> tuple[DueItems, ...]:
    """The upper convex hull of points in the order of their time; of more than fit, those that say the least go."""
    kept: list[tuple[float, int, datetime]] = []
    most = 0
    for by, place in points:
        if place <= most:
            continue  # an earlier deadline asks for as much
        most, at = place, by.timestamp()
        while len(kept) > 1 and _is_below(kept[-2], kept[-1], (at, place)):
            kept.pop()
        kept.append((at, place, by))
    while len(kept) > DUE_MAX:
        kept.pop(min(range(1, len(kept) - 1), key=lambda i: _height(kept[i - 1], kept[i], kept[i + 1])))
    return tuple(DueItems(by=by, items=place) for _, place, by in kept)


def _is_below(left: tuple[float, int, datetime], middle: tuple[float, int, datetime], right: tuple[float, int]) -> bool:
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])


def _height(
    left: tuple[float, int, datetime], middle: tuple[float, int, datetime], right: tuple[float, int, datetime]
) -> float:
    """By how much a point exceeds what its neighbours say of its time."""
    share = (middle[0] - left[0]) / (right[0] - left[0])
    return middle[1] - (left[1] + share * (right[1] - left[1]))
