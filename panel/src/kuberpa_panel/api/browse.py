"""What pages and API read: queries over the cluster and the archive, with what the viewer may see already decided."""

import json
from dataclasses import dataclass
from typing import Any

from kuberpa.activity import INLINE_RESULT_BYTES, ActivityItem
from kuberpa_panel.api import activities, archive
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.activities import ActivityDetail, ActivityPage, ActivityQuery, ActivityRow
from kuberpa_panel.api.context import Context
from kuberpa_panel.api.problems import FieldError, InvalidProblem, NotFoundProblem
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.database.records import Cursor, CursorError, PastActivity
from kuberpa_panel.language import _

LIVE = "live."
"""Prefix of a cursor within what has not ended; any other is a place in the archive."""


async def list_activities(context: Context, scope: Scope, query: ActivityQuery) -> ActivityPage:
    """One page: first what the archive does not have yet, then what it has.

    Raises InvalidProblem for a cursor that is not this panel's, ArchiveUnavailableError.
    """
    live = activities.select_live(scope.filter(context.services.cache.items), query)
    unfinished = sum(not row.is_final for row in live)
    place = _live_place(query.cursor)
    rest = live if not query.cursor else [row for row in live if place and activities.live_order(row) > place]
    items = rest[: query.size]
    free = query.size - len(items)
    page = await archive.browse(context.services.database, scope, query, _past_place(query.cursor), max(free, 1))
    known = {row.uid for row in live}
    past = [activities.row_of_past(each) for each in page.items if each.uid not in known][:free]
    next_cursor = page.next_cursor if free else None
    if len(rest) > query.size or (not free and page.items):
        next_cursor = _live_cursor(items[-1])
    return ActivityPage(items=(*items, *past), unfinished=unfinished, next_cursor=next_cursor)


def _live_cursor(row: ActivityRow) -> str:
    final, at, uid = activities.live_order(row)
    return f"{LIVE}{final:d}_{at!r}_{uid}"


def _live_place(cursor: str) -> tuple[bool, float, str] | None:
    if not cursor.startswith(LIVE):
        return None
    try:
        final, at, uid = cursor.removeprefix(LIVE).split("_", 2)
        return bool(int(final)), float(at), uid
    except ValueError as error:
        raise _unknown_cursor(cursor) from error


def _past_place(cursor: str) -> Cursor | None:
    if not cursor or cursor.startswith(LIVE):
        return None
    try:
        return Cursor.decode(cursor)
    except CursorError as error:
        raise _unknown_cursor(cursor) from error


def _unknown_cursor(cursor: str) -> InvalidProblem:
    message = _("%(cursor)r is not a cursor of this panel: start again without one", cursor=cursor[:80])
    return InvalidProblem(message, errors=(FieldError("cursor", message),))


@dataclass(frozen=True, slots=True)
class Found:
    """An activity by its name: in the cluster, or else in the archive."""

    item: ActivityItem | None
    past: PastActivity | None

    @property
    def uid(self) -> str:
        """UID of the item."""
        return self.item.metadata.uid if self.item else self.past.uid if self.past else ""

    @property
    def token(self) -> int:
        """Token of the last attempt; 0 when there was none."""
        return self.item.status.lease.token if self.item else self.past.token if self.past else 0


async def find_activity(context: Context, namespace: str, name: str) -> Found:
    """Raises NotFoundProblem; ArchiveUnavailableError when only the archive can tell."""
    item = context.services.activities.get(namespace, name)
    past = None if item else await archive.latest_named(context.services.database, namespace, name)
    if item is None and past is None:
        raise NotFoundProblem(
            _(
                "There is no activity %(namespace)s/%(name)s, neither in the cluster nor in the archive.",
                namespace=namespace,
                name=name,
            )
        )
    return Found(item, past)


async def activity_detail(context: Context, found: Found) -> ActivityDetail:
    """Everything but the output. While the archive is away: what the cluster has."""
    history = context.services.history
    if found.item is None:
        assert found.past is not None  # noqa: S101  Found has one of them
        attempts = await history.attempts(found.uid)
        return activities.detail_of_past(found.past, attempts, await _result(context, found))
    try:
        attempts = await history.attempts(found.uid)
        note = await context.services.output.progress(found.uid, found.token) if found.token else None
    except ArchiveUnavailableError:
        attempts, note = (), None
    detail = activities.detail_of(found.item, attempts)
    if note is None:
        return detail
    return detail.model_copy(update={"progress": note.fraction, "progress_message": note.message})


async def _result(context: Context, found: Found) -> Any:
    raw = await context.services.history.result(found.uid, found.token)
    small = raw is not None and len(raw) <= INLINE_RESULT_BYTES
    return json.loads(raw) if raw and small else None
