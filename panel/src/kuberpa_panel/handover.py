"""Work items that Schedules ask for are added to their queues: each once, by its idempotency key.

The operator numbers them in Schedule.status.queueItems; status.history.queueItems says up to which they are added, or
refused by the queue for good. A crash between the two adds nothing twice: the queue knows the key.
"""

import logging
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from kuberpa.client import SCHEDULES, ApiError, Cluster, InvalidError, NotFoundError
from kuberpa.names import timestamp
from kuberpa.queueing import AddItem, QueueError, QueueErrorCode
from kuberpa.schedule import QueuedItem, Schedule
from kuberpa.schedule_status import QUEUED_MAX, RefusedItem
from kuberpa_panel.queues.service import QueueService

log = logging.getLogger(__name__)

LATER: Final = frozenset({QueueErrorCode.UNAVAILABLE, QueueErrorCode.FORBIDDEN})
MESSAGE_CHARS: Final = 512


class HandOver:
    """Adds the work items that the status of a Schedule asks for."""

    def __init__(self, cluster: Cluster, queues: QueueService) -> None:
        self._cluster, self._queues = cluster, queues

    @staticmethod
    def is_due(schedule: Schedule) -> bool:
        """Whether some are not added yet."""
        status = schedule.status
        return any(item.number > status.history.queue_items for item in status.queue_items)

    async def serve(self, schedule: Schedule) -> None:
        """Add them, and say so. Raises ArchiveUnavailableError."""
        history = schedule.status.history
        through, refused = history.queue_items, list(history.refused)
        for item in schedule.status.queue_items:
            if item.number <= history.queue_items:
                continue
            message = await self._add(schedule, item)
            if message is None:
                break
            if message:
                refused.append(RefusedItem(number=item.number, message=message[:MESSAGE_CHARS]))
            through = item.number
        if through > history.queue_items:
            await self._say(schedule, through, refused[-QUEUED_MAX:])

    async def _add(self, schedule: Schedule, item: QueuedItem) -> str | None:
        """Nothing when it is added, else why it never will be; None: it is to be tried again."""
        meta, wanted = schedule.metadata, schedule.spec.action.queue_item
        if wanted is None:
            return "spec.action: the schedule adds no work items any more"
        queue = wanted.queue_ref.name
        try:
            request = AddItem.of(
                {
                    "payload": wanted.payload,
                    "reference": wanted.reference.replace("{time}", timestamp(item.time)),
                    "priority": wanted.priority,
                    "deadline": None
                    if wanted.deadline_seconds is None
                    else timestamp(item.time + timedelta(seconds=wanted.deadline_seconds)),
                    "idempotencyKey": item.key,
                }
            )
            await self._queues.add_planned(f"schedule {meta.namespace}/{meta.name}", meta.namespace, queue, request)
        except ValidationError as error:
            return f"spec.action.queueItem: {error.errors(include_url=False)[0]['msg']}"
        except QueueError as error:
            log.warning("%s/%s: queue %s: %s", meta.namespace, meta.name, queue, error)
            return None if error.code in LATER else f"queue {queue}: {error.message}"
        return ""

    async def _say(self, schedule: Schedule, through: int, refused: list[RefusedItem]) -> None:
        meta = schedule.metadata
        history: dict[str, Any] = {"queueItems": through}
        if refused:
            history["refused"] = [entry.to_json() for entry in refused]
        patch = {"metadata": {"uid": meta.uid}, "status": {"history": history}}
        try:
            await self._cluster.merge(SCHEDULES, meta.namespace, meta.name, patch, subresource="status")
        except (NotFoundError, InvalidError) as error:
            log.info("%s/%s moved while its work items were added: %s", meta.namespace, meta.name, error)
        except ApiError as error:
            log.warning("that work items of %s/%s are added is said later: %s", meta.namespace, meta.name, error)
