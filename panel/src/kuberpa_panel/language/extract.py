"""`make catalogues`: looks through the sources for what people read, and brings the catalogues up to date.

A new message arrives untranslated, one that is gone leaves. Places are files without lines, and messages are in
alphabetical order, so that changes of code change no more of a catalogue than they must.
"""

import sys
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from kuberpa_panel.language import kernel
from kuberpa_panel.language.catalogues import DOMAINS, PAGES, SCRIPTS, path_of, read
from kuberpa_panel.language.choice import DEFAULT, LANGUAGES

SOURCES: Final = Path(__file__).parents[1]
METHODS: Final[dict[str, list[tuple[str, str]]]] = {
    PAGES: [("**.py", "python"), ("templates/**.html", "jinja2")],
    SCRIPTS: [("static/vendor/**", "ignore"), ("static/**.js", "javascript")],
}
OPTIONS: Final = {
    # a template that cannot be read is an error, not one without messages
    "templates/**.html": {
        "extensions": "jinja2.ext.do",
        "newstyle_gettext": "true",
        "silent": "false",
        "trim_blocks": "true",
        "lstrip_blocks": "true",
    }
}
KEYWORDS: Final[dict[str, tuple[int | tuple[int, str], ...] | None]] = {
    "_": None,
    "gettext": None,
    "marked": None,
    "pmarked": ((1, "c"), 2),
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
HEADER: Final = (
    b'"Language: ',
    b'"Plural-Forms: ',
    b'"MIME-Version: ',
    b'"Content-Type: ',
    b'"Content-Transfer-Encoding: ',
)
"""Of the header only what says how to read the file: dates, versions and names would be in the way of merges."""


def template(domain: str) -> Catalog:
    """Every message of a domain as the sources have it now."""
    found = Catalog(domain=domain)
    messages = extract_from_dir(SOURCES, METHODS[domain], OPTIONS, KEYWORDS, comment_tags=("i18n:",))
    for file, _line, message, comments, context in messages:
        # without a line: the place changes only when the message moves to another file
        found.add(message, None, [(file, 0)], auto_comments=comments, context=context)
    if domain == PAGES:
        for context, word in kernel.words():
            found.add(word, None, [("kuberpa", 0)], context=context)
    return found


def text_of(catalogue: Catalog) -> bytes:
    """A catalogue as its file."""
    out = BytesIO()
    write_po(out, catalogue, width=0, sort_output=True, include_lineno=False, ignore_obsolete=True)
    head, separator, messages = out.getvalue().partition(b"\n\n")
    kept = [line for line in head.split(b"\n") if not line.startswith(b'"') or line.startswith(HEADER)]
    return b"\n".join(kept) + separator + messages


def updated(domain: str, language: str) -> Catalog:
    """The committed translations of what is to translate now."""
    if path_of(domain, language).exists():
        catalogue = read(domain, language)
    else:
        catalogue = Catalog(language, domain, "# `make catalogues` adds what is new.", fuzzy=False)
    # no fuzzy matching: a translation of something similar would be shown as if somebody had meant it
    catalogue.update(template(domain), no_fuzzy_matching=True, update_creation_date=False)
    return catalogue


def main() -> None:
    """Write the catalogues and say what is untranslated."""
    for language in LANGUAGES.keys() - {DEFAULT}:
        for domain in DOMAINS:
            catalogue = updated(domain, language)
            path_of(domain, language).write_bytes(text_of(catalogue))
            missing = len(untranslated(catalogue))
            sys.stdout.write(f"{language}/{domain}: {len(catalogue)} messages, {missing} without translation\n")


def untranslated(catalogue: Catalog) -> list[Message]:
    """Messages that lack a translation, or one of its plural forms."""
    return [each for each in catalogue if each.id and not all(forms_of(each, catalogue.num_plurals))]


def forms_of(message: Message, plurals: int) -> tuple[str, ...]:
    """The translation, or one for each plural form; empty ones are missing."""
    string = message.string or ""
    forms = (string,) if isinstance(string, str) else tuple(string)
    return forms + ("",) * (plurals - len(forms)) if message.pluralizable else forms


if __name__ == "__main__":
    main()
