"""What PostgreSQL makes of statements' clocks."""

import re
from pathlib import Path

import kuberpa_panel

SOURCES = Path(kuberpa_panel.__file__).parent


def test_no_row_is_looked_for_by_a_clock_that_keeps_postgresql_from_using_an_index() -> None:
    """clock_timestamp() is volatile: a column compared with it is read through from end to end, statement_timestamp()
    is one value for the whole statement.
    """
    found = [
        f"{path.relative_to(SOURCES)}: {match[0]}"
        for path in [*SOURCES.rglob("*.py"), *SOURCES.rglob("*.sql")]
        for match in re.finditer(r"[<>]=? clock_timestamp\(\).*", path.read_text("utf-8"))
    ]
    assert found == []
