"""The functions that translate. Values are put in after translating: `%(name)s` stands for one, `%%` for a percent."""

import gettext
from typing import Any, NamedTuple

from kuberpa_panel.language.catalogues import PAGES, catalogue
from kuberpa_panel.language.choice import current


class Word(NamedTuple):
    """A word, and what it is said of: languages with genders have several for it."""

    context: str
    message: str

    def __str__(self) -> str:
        return pgettext(self.context, self.message)


def spoken() -> gettext.NullTranslations:
    """The catalogue of this context's language."""
    return catalogue(PAGES, current())


def _(message: str, /, **values: Any) -> str:
    """A sentence in the reader's language."""
    return spoken().gettext(message) % values


def ngettext(one: str, many: str, num: int, /, **values: Any) -> str:
    """A sentence about a number of things, in as many forms as the reader's language has; the number is `num`."""
    return spoken().ngettext(one, many, num) % {"num": num, **values}


def pgettext(context: str, message: str, /, **values: Any) -> str:
    """A word whose translation depends on what it is said of."""
    return spoken().pgettext(context, message) % values


def npgettext(context: str, one: str, many: str, num: int, /, **values: Any) -> str:
    """As both of these."""
    return spoken().npgettext(context, one, many, num) % {"num": num, **values}


def marked(message: str, /) -> str:
    """Marks a sentence for the catalogues, which is translated where it is shown."""
    return message


def pmarked(context: str, message: str, /) -> Word:
    """As `marked`; `str()` of it is its translation."""
    return Word(context, message)
