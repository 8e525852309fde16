"""What holders of leases were answered: the same request again is answered the same.

After a lost answer the item may be with another robot already, or have a successor in another queue. A completion
without a successor needs nothing kept: the finished item says it all.
"""

import json
from typing import Any

from kuberpa.queueing import Held, Settled
from kuberpa_panel.queues.rows import dumps


async def keep(connection: Any, row: Any, request: Held, by: str, settled: Settled) -> None:
    """Keep the answer to a request that ends a lease, in the transaction that ends it."""
    await connection.execute(
        "INSERT INTO queue_answers (queue_id, item_id, token, operation, who, answer) VALUES ($1, $2, $3, $4, $5, $6)",
        row["queue_id"],
        row["id"],
        row["token"],
        type(request).__name__,
        by,
        dumps(settled.to_json()),
    )


async def find(connection: Any, number: int, request: Held, by: str) -> Settled | None:
    """What this principal was answered to this very request; None when it never came, or long ago."""
    answer = await connection.fetchval(
        "SELECT answer FROM queue_answers WHERE queue_id = $1 AND item_id = $2 AND token = $3 AND operation = $4 "
        "AND who = $5",
        number,
        int(request.id),
        request.token,
        type(request).__name__,
        by,
    )
    return None if answer is None else Settled.of(json.loads(answer))


async def forget(connection: Any) -> None:
    """Forget what is older than a day."""
    await connection.execute("DELETE FROM queue_answers WHERE answered_at < statement_timestamp() - interval '1 day'")
