"""Nothing that people read stands in a template or script untranslated."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kuberpa_panel.language.catalogues import PAGES
from kuberpa_panel.language.catalogues import SCRIPTS as SCRIPTS_DOMAIN
from kuberpa_panel.language.extract import template
from kuberpa_panel.web import assets
from kuberpa_panel.web.render import ENVIRONMENT

PACKAGE = Path(assets.__file__).parents[1]
SCRIPTS = sorted((PACKAGE / "static").glob("*.js"))
TEMPLATES = sorted((PACKAGE / "templates").rglob("*.html"))
READ = frozenset({"alt", "aria-label", "aria-roledescription", "data-label", "label", "placeholder", "title", "value"})
"""Attributes that are shown or spoken."""
QUOTED = frozenset({"code", "kbd", "samp", "script", "style"})
"""Elements whose content is for machines."""
NAMES = frozenset(
    {
        "kuberpa",
        "GSettings",
        "YAML",
        "JSON",
        "Python",
        "curl",
        "CSV",
        "JSONL",
        "UTC",
        "kubectl",
        "ID",
        "Ctrl",
        "Alt",
        "Del",
        "Enter",
    }
)
"""What every language calls the same."""
ATTRIBUTE = re.compile(r'[a-z-]+="[^"]*"')
"""What a macro that makes attributes looks like outside of a tag."""
WORD = re.compile(r"[^\W\d_]{2,}")
SENTENCE = re.compile(r"^[A-Z][a-z]+[ .!?…][^=;{}\[\]]*$|^[a-z]+ [a-z ]+[.…!?]$")
"""A sentence, and neither a selector nor a list of classes."""


class Reader(HTMLParser):
    """Collects the words that a template says by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.quoted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.quoted += tag in QUOTED
        kind = dict(attrs).get("type") or ""
        for name, text in attrs:
            if name in READ and not (name == "value" and (tag != "input" or kind not in {"submit", "button"})):
                self._note("" if "=" in (text or "") else text or "")  # an example of a label, not a sentence

    def handle_endtag(self, tag: str) -> None:
        self.quoted -= tag in QUOTED

    def handle_data(self, data: str) -> None:
        if not self.quoted:
            self._note(data)

    def _note(self, text: str) -> None:
        self.found += [word for word in WORD.findall(ATTRIBUTE.sub("", text)) if word not in NAMES]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PACKAGE / "templates")))
def test_a_template_says_nothing_untranslated(path: Path) -> None:
    reader = Reader()
    tokens = ENVIRONMENT.lex(path.read_text())
    reader.feed("".join(value for _line, kind, value in tokens if kind == "data"))
    assert not reader.found, "wrap these in _(…), or put what is no language into <code>"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_nothing_untranslated(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.split("//")[0]
        assert not re.search(r"\$\{[^}]*\b(_|ngettext|pgettext)\(", code), f"{number}: Babel looks into no template"
        said = re.sub(r"\b(_|ngettext|pgettext)\((?:\"[^\"]*\",? ?)+", "", code)
        found = [text for text in re.findall(r"[\"`]([^\"`]*)[\"`]", said) if SENTENCE.search(text)]
        assert not found, f"{number}: wrap these in _(…)"


def test_every_template_and_script_can_be_looked_through() -> None:
    for domain, sources in ((PAGES, TEMPLATES), (SCRIPTS_DOMAIN, SCRIPTS)):
        looked_at = {place for message in template(domain) for place, _line in message.locations}
        speaking = [path for path in sources if re.search(r"\b_\(", path.read_text())]
        missed = {str(path.relative_to(PACKAGE)) for path in speaking} - looked_at - {"static/words.js"}
        assert not missed, "Babel finds no message in these: it cannot read them"
