"""Nothing that people read stands in a template or script untranslated."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kuberpa_panel.web import assets

PACKAGE = Path(assets.__file__).parents[1]
TEMPLATES = sorted((PACKAGE / "templates").rglob("*.html"))
READ = frozenset({"alt", "aria-label", "aria-roledescription", "data-label", "label", "placeholder", "title", "value"})
"""Attributes that are shown or spoken."""
QUOTED = frozenset({"code", "kbd", "samp", "script", "style"})
"""Elements whose content is for machines."""
NAMES = frozenset({"kuberpa", "GSettings", "YAML", "JSON", "Python", "curl", "CSV", "JSONL", "UTC", "kubectl", "ID"})
"""What every language calls the same."""
EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
WORD = re.compile(r"[^\W\d_]{2,}")


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
                self._note(text or "")

    def handle_endtag(self, tag: str) -> None:
        self.quoted -= tag in QUOTED

    def handle_data(self, data: str) -> None:
        if not self.quoted:
            self._note(data)

    def _note(self, text: str) -> None:
        self.found += [word for word in WORD.findall(text) if word not in NAMES]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PACKAGE / "templates")))
def test_a_template_says_nothing_untranslated(path: Path) -> None:
    reader = Reader()
    reader.feed(EXPRESSION.sub("", path.read_text()))
    assert not reader.found, "wrap these in _(…), or put what is no language into <code>"
