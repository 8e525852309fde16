"""Translations as they lie in `locales/`, compiled when they are first needed: nothing generated is in git."""

import gettext
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from kuberpa_panel.language.choice import DEFAULT, LANGUAGES

FOLDER: Final = Path(__file__).parents[1] / "locales"
PAGES: Final = "panel"
"""What templates and Python say."""
SCRIPTS: Final = "scripts"
"""What scripts say in the browser."""
DOMAINS: Final = (PAGES, SCRIPTS)


def path_of(domain: str, language: str) -> Path:
    """The file with the translations."""
    return FOLDER / language / f"{domain}.po"


@cache
def read(domain: str, language: str) -> Catalog:
    """Every message with its translations and where it comes from."""
    with path_of(domain, language).open("rb") as file:
        return read_po(file, locale=language, domain=domain, abort_invalid=True)


@cache
def catalogue(domain: str, language: str) -> gettext.NullTranslations:
    """What answers with translations; with the message itself where there is none."""
    if language == DEFAULT:
        return gettext.NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, read(domain, language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def table(domain: str, language: str) -> dict[str, str | list[str]]:
    """Translations by message, as static/words.js looks them up: one, or all plural forms by the singular's message."""
    translated: dict[str, str | list[str]] = {}
    for each in read(domain, language):
        forms = [each.string] if isinstance(each.string, str) else list(each.string or ())
        if each.id and all(forms):
            singular = each.id if isinstance(each.id, str) else each.id[0]
            key = f"{each.context}\4{singular}" if each.context else singular
            translated[key] = forms[0] if isinstance(each.id, str) else forms
    return translated


def warm() -> None:
    """Compile all now, so that no request waits for it."""
    for language in LANGUAGES:
        catalogue(PAGES, language)
