"""Templates to pages: escaping always on, times in the viewer's zone, messages marked for translation."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context as TemplateContext
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from kuberpa.names import timestamp
from kuberpa_panel import clock
from kuberpa_panel.api import csrf, text
from kuberpa_panel.api.access import Scope, scope_of
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import known_namespaces
from kuberpa_panel.api.identity import short_name
from kuberpa_panel.api.system import MaySee
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import DEFAULT, LANGUAGES, current, dates, spoken
from kuberpa_panel.language.kernel import name_of
from kuberpa_panel.web import assets, plugin_view
from kuberpa_panel.web.words import look

NOTHING: Final = Markup("&#8211;")
KINDS: Final = ("robots", "activityitems", "workqueues", "schedules", "logs")
FINE_SECONDS: Final = 60
THEMES: Final = ("auto", "light", "dark")
_ZONE: Final = re.compile(r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kuberpa_panel", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    # values are escaped before they are put in; messages themselves hold no markup (a test looks)
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        lambda message: spoken().gettext(message),
        lambda one, many, num: spoken().ngettext(one, many, num),
        newstyle=True,
        pgettext=lambda said_of, message: spoken().pgettext(said_of, message),
        npgettext=lambda said_of, one, many, num: spoken().npgettext(said_of, one, many, num),
    )
    # parameters stay in the order of their signature
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False}
    environment.globals.update(GLOBALS)
    environment.filters.update(FILTERS)
    return environment


def zone_of(request: Request) -> ZoneInfo:
    """The browser's zone, which its script keeps in a cookie; until then the one that settings name."""
    name = request.cookies.get("kuberpa_zone", "")
    if not _ZONE.match(name):
        name = context_of(request).services.gsettings.settings().panel.time_zone
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def common(request: Request, viewer: Viewer | None) -> dict[str, Any]:
    """What every page and fragment may use."""
    theme = request.cookies.get("kuberpa_theme", "auto")
    return {
        "request": request,
        "viewer": viewer,
        "csrf": csrf.issue(context_of(request).sessions, viewer.session) if viewer and viewer.session else "",
        "namespace": request.query_params.get("namespace", "") or request.path_params.get("namespace", ""),
        "nonce": request.state.nonce,
        "request_id": request.state.request_id,
        "now": clock.now(),
        "zone": zone_of(request),
        "language": current(),
        "languages": LANGUAGES,
        "theme": theme if theme in THEMES else "auto",
    }


async def page(
    request: Request, viewer: Viewer | None, template: str, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """A whole page. Raises UnavailableProblem when the API server cannot say what the viewer may see."""
    scopes = await visible(context_of(request), viewer) if viewer else {}
    known = known_namespaces(context_of(request)) if viewer else set()
    spaces = sorted(name for name in known if any(scope.includes(name) for scope in scopes.values()))
    plugin_pages = await plugin_view.pages(request, viewer) if viewer else []
    shown = {
        "plugin_pages": plugin_pages,
        "namespaces": spaces,
        "listed": {kind for kind, scope in scopes.items() if scope},
        "may_system": viewer is not None and await MaySee.holds(context_of(request), viewer),
        "may_audit": viewer is not None and bool(await audit_scope(context_of(request), viewer)),
    }
    body = ENVIRONMENT.get_template(template).render(common(request, viewer) | shown | values)
    return HTMLResponse(body, status)


async def visible(context: Context, viewer: Viewer) -> dict[str, Scope]:
    """Where the viewer may list what: namespaces and sections of others are not even named."""
    known, access = known_namespaces(context), context.services.access
    return {kind: await scope_of(access, viewer.user, "list", kind, known) for kind in KINDS}


async def audit_scope(context: Context, viewer: Viewer) -> Scope:
    """Where the viewer may read the audit trail."""
    return await scope_of(context.services.access, viewer.user, "list", "audit", known_namespaces(context))


def fragment(template: str, values: Mapping[str, Any]) -> str:
    """A part of a page, from the template that the page includes too."""
    return ENVIRONMENT.get_template(template).render(values).strip()


def icon(name: str, classes: str = "") -> Markup:
    """A symbol of the sprite, hidden from screen readers: the word beside it speaks."""
    sprite = assets.address("vendor/tabler-icons-3.51.0/sprite.svg")
    return Markup('<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>').format(
        classes, sprite, name
    )


@pass_context
def at(context: TemplateContext, moment: datetime | None, *, seconds: bool = True) -> Markup:
    """An instant as 24-hour wall-clock time in the viewer's zone, which is always shown; UTC on hover."""
    if moment is None:
        return NOTHING
    shown = dates.instant(moment, context["zone"], context["now"], seconds=seconds)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        timestamp(moment), dates.exact(moment, context["zone"]), shown
    )


@pass_context
def ago(context: TemplateContext, moment: datetime | None) -> Markup:
    """How long ago an instant was; the page's script keeps it going."""
    if moment is None:
        return NOTHING
    return Markup('<time datetime="{}" title="{}" data-since>{}</time>').format(
        timestamp(moment), dates.exact(moment, context["zone"]), text.duration(context["now"] - moment)
    )


@pass_context
def took(context: TemplateContext, started: datetime | None, finished: datetime | None, *, running: bool) -> Markup:
    """How long something took, or has been going on."""
    if started is None or (finished is None and not running):
        return NOTHING
    if finished is None:
        return ago(context, started)
    return Markup("{}").format(text.duration(max(finished - started, timedelta())))


@pass_context
def url_with(context: TemplateContext, **changes: Any) -> str:
    """This page's address with other query parameters; None takes one away, a change starts at the first page."""
    request: Request = context["request"]
    path = request.url.path.removesuffix("/stream")
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    if "page" not in changes and "cursor" not in changes:
        pairs = [(key, value) for key, value in pairs if key not in {"page", "cursor"}]
    for key, value in changes.items():
        pairs += [(key, each) for each in (value if isinstance(value, list | tuple) else [value]) if each is not None]
    query = urlencode([(key, value) for key, value in pairs if value != ""])
    return f"{path}?{query}" if query else path


@pass_context
def wall(context: TemplateContext, moment: str | datetime | None) -> str:
    """An instant as a field of a form has it: wall-clock time in the viewer's zone, without the zone."""
    if not moment:
        return ""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return at.astimezone(context["zone"]).strftime("%Y-%m-%dT%H:%M")


def said(word: str) -> str:
    """A reason in the reader's language, where there is no room for both."""
    return name_of(word, "reason")


def reason(word: str) -> Markup:
    """A reason as kubectl has it, and in the reader's language below."""
    translated = name_of(word, "reason") if current() != DEFAULT else word
    if translated == word:
        return escape(word)
    return Markup('{}<span class="k-said">{}</span>').format(word, translated)


def weekday(day: str) -> str:
    """A day of the week in the reader's language."""
    return name_of(day, "weekday")


def line_json(value: Any) -> str:
    """JSON in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def span(seconds: float) -> str:
    """A number of seconds in words."""
    return text.duration(timedelta(seconds=seconds))


def fine_span(begun: datetime, ended: datetime) -> str:
    """How long something took, as fine as debugging wants it."""
    seconds = max((ended - begun).total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} {text.UNIT_MILLISECOND}"
    return (
        f"{dates.number(round(seconds, 1), '0.0')} {text.UNIT_SECOND}"
        if seconds < FINE_SECONDS
        else text.duration(timedelta(seconds=seconds))
    )


def pretty_json(value: Any) -> str:
    """JSON for people: indented, in their own letters."""
    return json.dumps(value, indent=2, ensure_ascii=False)


GLOBALS: Final[dict[str, Any]] = {
    "asset": assets.address,
    "icon": icon,
    "look": look,
    "ago": ago,
    "at": at,
    "took": took,
    "url_with": url_with,
    "wall": wall,
    "name_of": name_of,
    "weekdays": dates.weekdays,
    "fine_span": fine_span,
}
FILTERS: Final[dict[str, Any]] = {
    "short_name": short_name,
    "number": dates.number,
    "date": dates.date,
    "json": pretty_json,
    "line": line_json,
    "duration": text.duration,
    "span": span,
    "reason": reason,
    "said": said,
    "weekday": weekday,
}
ENVIRONMENT: Final = _environment()
