"""Words and dates in the language of whoever reads: Babel catalogues, one a language and one more for scripts.

Code says English and is translated where it stands: `_("There is no robot %(name)s.", name=name)`. The language is
that of the request in whose context it runs; outside of requests it is English. What is said before there is a reader
(a class attribute, a table) is only marked there, `marked("Not found")`, and translated where it is shown.
Names of states and reasons stay as kubectl has them; pages put their translation beside or below them.
"""

from kuberpa_panel.language.choice import DEFAULT, LANGUAGES, LanguageOfRequest, current, speaking
from kuberpa_panel.language.words import Word, _, marked, ngettext, npgettext, pgettext, pmarked, spoken

__all__ = [
    "DEFAULT",
    "LANGUAGES",
    "LanguageOfRequest",
    "Word",
    "_",
    "current",
    "marked",
    "ngettext",
    "npgettext",
    "pgettext",
    "pmarked",
    "speaking",
    "spoken",
]
