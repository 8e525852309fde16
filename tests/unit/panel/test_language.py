from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import HTTPConnection

from kuberpa_panel.language import choice, dates, speaking

NOW = datetime(2026, 11, 27, 9, 4, 5, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", ""),
        ("ru", "ru"),
        ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
        ("en-GB,en;q=0.9,ru;q=0.8", "en"),
        ("de-DE,de;q=0.9,ru;q=0.5,en;q=0.4", "ru"),
        ("en;q=0.2, RU;q=0.7", "ru"),
        ("ru;q=0, en;q=0.1", "en"),
        ("ru;q=much,en", "en"),
        ("*", ""),
        ("ja, *;q=0.1", ""),
        (";;;,,,=", ""),
        ("ja," * 4000 + "ru", ""),
    ],
)
def test_the_browser_is_answered_in_the_first_of_its_languages_that_there_is(header: str, language: str) -> None:
    assert choice.accepted(header) == language


@pytest.mark.parametrize(
    ("cookie", "accept", "language"),
    [("ru", "en", "ru"), ("en", "ru", "en"), ("tlh", "ru", "ru"), ("", "ja", "en"), ("../ru", "", "en")],
)
def test_what_the_user_chose_goes_before_what_the_browser_asks_for(cookie: str, accept: str, language: str) -> None:
    headers = [(b"cookie", f"kuberpa_language={cookie}".encode()), (b"accept-language", accept.encode())]
    assert choice.chosen(HTTPConnection({"type": "http", "headers": headers})) == language


def test_a_time_of_another_day_names_the_day_and_of_another_year_the_year() -> None:
    assert dates.instant(NOW, MOSCOW, NOW) == "12:04:05 MSK"
    assert dates.instant(NOW, MOSCOW, NOW, seconds=False) == "12:04 MSK"
    assert dates.instant(NOW.replace(month=5, day=3), MOSCOW, NOW) == "3 May, 12:04:05 MSK"
    assert dates.instant(NOW.replace(year=2025), MOSCOW, NOW) == "27 Nov 2025, 12:04:05 MSK"
    with speaking("ru"):
        assert dates.instant(NOW.replace(month=5, day=3), MOSCOW, NOW) == "3 мая, 12:04:05 MSK"


def test_whoever_points_at_a_time_sees_it_whole_and_in_utc() -> None:
    assert dates.exact(NOW, MOSCOW) == "2026-11-27 12:04:05 MSK = 2026-11-27 09:04:05 UTC"
    assert dates.exact(NOW, UTC) == "2026-11-27 09:04:05 UTC"


def test_numbers_have_the_separators_of_the_language() -> None:
    assert (dates.number(1234567), dates.number(0.5)) == ("1,234,567", "0.5")
    with speaking("ru"):
        assert (dates.number(1234567), dates.number(0.5)) == ("1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567", "0,5")
