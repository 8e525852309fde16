import json
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import HTTPConnection

from kuberpa.activity import ActivityPhase
from kuberpa.robot import RobotPhase
from kuberpa_panel.language import LANGUAGES, choice, dates, ngettext, speaking
from kuberpa_panel.language.catalogues import DOMAINS, read
from kuberpa_panel.language.extract import forms_of, template, untranslated
from kuberpa_panel.language.kernel import name_of
from kuberpa_panel.web.assets import assets
from kuberpa_panel.web.render import ENVIRONMENT, reason

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


@pytest.mark.parametrize(
    ("num", "words"),
    [(1, "1 робот"), (2, "2 робота"), (5, "5 роботов"), (11, "11 роботов"), (21, "21 робот"), (0, "0 роботов")],
)
def test_russian_has_three_plural_forms(num: int, words: str) -> None:
    with speaking("ru"):
        assert ngettext("%(num)s robot", "%(num)s robots", num) == words


def test_a_word_has_the_gender_of_what_it_is_said_of() -> None:
    with speaking("ru"):
        assert (name_of("Stopped", "robot"), name_of("Stopped", "activity")) == ("Остановлен", "Остановлена")
        assert (name_of(RobotPhase.STOPPED), name_of(ActivityPhase.STOPPED)) == ("Остановлен", "Остановлена")
        assert name_of("SomethingNew", "robot") == "SomethingNew"


def test_a_reason_stays_as_kubectl_has_it_with_its_translation_below() -> None:
    assert reason("RobotBusy") == "RobotBusy"
    with speaking("ru"):
        assert reason("RobotBusy") == 'RobotBusy<span class="k-said">робот занят</span>'
        assert reason("<b>") == "&lt;b&gt;"


def test_values_are_escaped_in_whatever_language() -> None:
    source = '{{ _("in namespace %(namespace)s", namespace=name) }} {{ ngettext("%(num)s line", "%(num)s lines", 2) }}'
    page = ENVIRONMENT.from_string(source)
    with speaking("ru"):
        assert page.render(name="<script>") == "в пространстве имён &lt;script&gt; 2 строки"


def test_scripts_get_their_words_with_all_plural_forms_and_contexts() -> None:
    words = json.loads(assets()["words/ru.js"].body.removeprefix(b"globalThis.kuberpaWords = ").rstrip(b";\n"))
    assert words["%(num)s process"] == ["%(num)s процесс", "%(num)s процесса", "%(num)s процессов"]
    assert words["unit\4min"] == "мин"


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", LANGUAGES.keys() - {"en"})
def test_a_translation_holds_the_placeholders_of_its_message_and_no_markup(domain: str, language: str) -> None:
    for message in filter(lambda each: each.id, read(domain, language)):
        originals = [message.id] if isinstance(message.id, str) else list(message.id)
        wanted = set().union(*map(placeholders, originals))
        forms = forms_of(message, 3)
        for text in originals + [form for form in forms if form]:
            assert not re.search(r"<[A-Za-z/!]|&\w+;", text), f"{text!r}: messages hold no markup"
        for form in filter(None, forms):
            may_omit = {"num"} if message.pluralizable else set()
            assert wanted - may_omit <= placeholders(form) <= wanted | {"num"}, f"{message.id!r}: {form!r}"
            assert form % dict.fromkeys(wanted | {"num"}, "x")


def placeholders(text: str) -> set[str]:
    """Names of a format; whatever else follows a percent sign must be another one."""
    assert "%" not in re.sub(r"%(?:%|\(\w+\)[sr])", "", text), f"{text!r}: write %% for a percent"
    return set(re.findall(r"%\((\w+)\)[sr]", text))


def test_who_asks_for_none_of_ours_gets_the_language_of_the_settings() -> None:
    connection = HTTPConnection({"type": "http", "headers": [(b"accept-language", b"fr")]})
    assert choice.chosen(connection, "ru") == "ru"
    connection = HTTPConnection({"type": "http", "headers": [(b"accept-language", b"en")]})
    assert choice.chosen(connection, "ru") == "en"


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", LANGUAGES.keys() - {"en"})
def test_everything_that_is_said_is_translated(domain: str, language: str) -> None:
    present = {(message.context, message.id): message for message in read(domain, language) if message.id}
    wanted = {(message.context, message.id) for message in template(domain) if message.id}
    assert wanted - present.keys() == set(), "`make catalogues` adds these, then translate them"
    assert present.keys() - wanted == set(), "`make catalogues` removes these, which nothing says any more"
    missing = [message.id for message in untranslated(read(domain, language))]
    assert missing == [], f"translate these in locales/{language}/{domain}.po"
