from typing import Final

from kuberpa_panel.database import reads
from kuberpa_panel.database.pool import Database
from kuberpa_panel.database.records import Attempt, Cursor, Page, PastActivity

PAGE_MAX: Final = 500


def result_path(uid: str, token: int) -> str:
    """Path under the panel's URL of an attempt's result, as status.resultRef.path has it."""
    return f"/api/v1/attempts/{uid}/{token}/result"


class History:
    """What ended, whether or not its ActivityItem still exists. All raise ArchiveUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(  # noqa: PLR0913  the filters of one query
        self,
        namespace: str | None = None,
        *,
        robot: str | None = None,
        phase: str | None = None,
        definition: str | None = None,
        schedule: str | None = None,
        cursor: str = "",
        limit: int = 50,
    ) -> Page:
        """A page of items that ended, the latest first; `next_cursor` continues. Raises CursorError."""
        return await reads.past_activities(
            self._database,
            namespace=namespace,
            robot=robot,
            phase=phase,
            definition=definition,
            schedule=schedule,
            cursor=Cursor.decode(cursor) if cursor else None,
            limit=max(1, min(limit, PAGE_MAX)),
        )

    async def get(self, uid: str) -> PastActivity | None:
        """An item that ended; None while it has not, or when it is unknown."""
        return await reads.past_activity(self._database, uid)

    async def attempts(self, uid: str) -> tuple[Attempt, ...]:
        """All attempts at an item, running ones too, the first one first."""
        return await reads.attempts(self._database, uid)

    async def attempt(self, uid: str, token: int) -> Attempt | None:
        """One attempt: tells namespace, name and robot, by which its reader is authorised."""
        return await reads.attempt(self._database, uid, token)

    async def result(self, uid: str, token: int) -> bytes | None:
        """JSON text (UTF-8) of an attempt's result, up to 4 MiB; None without one."""
        return await reads.result(self._database, uid, token)
