import hashlib
import re
from pathlib import Path

import pytest

from kuberpa_panel.web import assets
from kuberpa_panel.web.render import ENVIRONMENT

PACKAGE = Path(assets.__file__).parents[1]
TEMPLATES = sorted((PACKAGE / "templates").rglob("*.html"))
SCRIPTS = sorted(path for path in (PACKAGE / "static").glob("*.js"))
VENDORED = [PACKAGE / "static/vendor", Path(__file__).parents[2] / "browser/vendor"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_needs_no_inline_script_or_style_and_never_switches_escaping_off(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\son[a-z]+\s*=", text), "inline handler"
    assert not re.search(r"\sstyle\s*=|<style", text), "inline style"
    assert not re.search(r"<script(?![^>]*\ssrc=)", text), "inline script"
    assert not re.search(r"hx-on|js:|javascript:|hx-trigger=\"[^\"]*\[", text), "htmx would evaluate this"
    assert not re.search(r"\|\s*safe\b|autoescape\s+false|Markup\(", text), "escaping switched off"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_own_scripts_write_text_and_never_markup(path: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", path.read_text()
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_compiles(path: Path) -> None:
    ENVIRONMENT.get_template(str(path.relative_to(PACKAGE / "templates")))


@pytest.mark.parametrize("root", VENDORED, ids=lambda root: root.parent.name)
def test_vendored_files_are_what_was_vendored_and_carry_licences(root: Path) -> None:
    lines = (root / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert files == set(sums)
    assert all(hashlib.sha256((root / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    assert all((root / name.split("/")[0] / "LICENSE").is_file() for name in files)


def test_every_icon_in_use_is_in_the_sprite() -> None:
    sprite = (PACKAGE / "static/vendor/tabler-icons-3.51.0/sprite.svg").read_text()
    known = set(re.findall(r'<symbol id="([^"]+)"', sprite))
    used = {name for path in TEMPLATES for name in re.findall(r'icon\("([a-z0-9-]+)"', path.read_text())}
    words = (PACKAGE / "web/words.py").read_text()
    used |= set(re.findall(r'Look\("[a-z]+", "([a-z0-9-]+)"\)', words))
    assert used <= known, used - known


def test_a_page_of_another_release_gets_its_file_but_not_for_keeps() -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/static/000000000000/page.js",
        "root_path": "/static",
        "headers": [],
    }
    old = assets.Static().respond(scope)
    new = assets.Static().respond({**scope, "path": assets.address("page.js")})
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")
    assert "immutable" in new.headers["cache-control"]


def test_files_outside_of_static_are_not_served() -> None:
    scope = {"type": "http", "method": "GET", "root_path": "/static", "headers": []}
    for path in ("/static/x/../app.py", "/static/../app.py", "/static/x/..%2fapp.py", "/static/", "/static/vendor"):
        assert assets.Static().respond({**scope, "path": path}).status_code == 404
