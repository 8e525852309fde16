from datetime import UTC, datetime

import pytest

from kuberpa_panel.database.migrate import MigrationError, check_server, migrations
from kuberpa_panel.database.records import Cursor, CursorError


def test_a_cursor_survives_the_journey_through_a_url() -> None:
    cursor = Cursor(at=datetime(2026, 1, 31, 9, 0, 0, 123456, UTC), uid="u-1")
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize("text", ["", "!", "eyJ9", "WzEsMl0", "ж"])
def test_a_foreign_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        Cursor.decode(text)


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_server_that_is_too_old_is_refused_in_words() -> None:
    check_server(170000)
    check_server(180001)
    with pytest.raises(MigrationError, match=r"PostgreSQL 16\.4; kuberpa needs version 17 or newer"):
        check_server(160004)
