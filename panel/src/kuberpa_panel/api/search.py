"""/api/v1/search: any robot, queue, schedule, activity, page and action that the viewer may see, for the palette."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request

from kuberpa.model import Model
from kuberpa.robot import Robot, RobotDesiredState
from kuberpa_panel.api.access import Scope, allows, scope_of
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import SignedIn, guarded, known_namespaces, may_control
from kuberpa_panel.api.problems import Right
from kuberpa_panel.api.system import MaySee
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.core.palette import Entry, Group, choose, spellings
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import LANGUAGES, _, marked, speaking
from kuberpa_panel.queues.reading import by_reference

router = APIRouter(prefix="/api/v1/search", tags=["search"])
ACTION: Final = ">"
KINDS: Final[tuple[tuple[str, Group, str, str], ...]] = (
    ("robots", "robot", "robots", "/robots"),
    ("robotfleets", "fleet", "fleets", "/fleets"),
    ("robothosts", "host", "hosts", "/robots?text="),
    ("workqueues", "queue", "queues", "/queues"),
    ("schedules", "schedule", "schedules", "/schedules"),
    ("calendars", "calendar", "calendars", "/calendars"),
    ("activityitems", "activity", "items", "/activities"),
)
"""Resource, group, store, and where its pages are."""
PAGES: Final = (
    ("", marked("Overview"), "/", "home start обзор главная"),
    ("robots", marked("Robots"), "/robots", "роботы"),
    ("robots", marked("Screens"), "/robots/screens", "grid thumbnails wall экраны сетка"),
    ("robotfleets", marked("Fleets"), "/fleets", "парки группы роботов"),
    ("activityitems", marked("Activities"), "/activities", "runs jobs активности задания запуски"),
    ("workqueues", marked("Queues"), "/queues", "transactions очереди"),
    ("schedules", marked("Schedules"), "/schedules", "cron triggers расписания"),
    ("schedules", marked("Agenda"), "/agenda", "week day firings повестка план неделя"),
    ("calendars", marked("Calendars"), "/calendars", "holidays календари праздники"),
    ("", marked("Debug"), "/debug", "console try отладка"),
    ("", "GSettings", "/gsettings", "settings настройки"),
    ("system", marked("System"), "/system", "operator panel database версии система"),
    ("audit", marked("Audit"), "/audit", "who history аудит журнал"),
)
"""The right `list` on what takes it, the title, the address, other words: in both languages, whoever is asking."""
ACTIONS: Final = (
    ("", marked("Run an activity"), "/run", "start job запустить выполнить"),
    ("audit", marked("Verify the audit trail"), "/audit/verify", "hash chain проверить журнал"),
    ("schedules", marked("See what will fire"), "/agenda", "agenda tomorrow завтра сработает"),
    (
        "activityitems",
        marked("See what failed in the last 24 hours"),
        "/activities?phase=Failed&phase=Lost",
        "errors ошибки сбои упало",
    ),
)


class Found(Model):
    """Something that was found; `post` is where a form goes for what is done at once, after `csrf`."""

    group: Group
    title: str
    sub: str
    href: str
    post: str
    state: str


class SearchQuery(Model):
    """What to find. `>` before it finds only what can be done."""

    q: str = Field("", max_length=200)


@router.get("", summary="Find anything by its name")
async def search(
    request: Request,
    query: Annotated[SearchQuery, Query()],
    viewer: Annotated[Viewer, guarded(SignedIn("finds of each kind only what the viewer may list"))],
) -> tuple[Found, ...]:
    """The best matches, few of each kind. Text typed in the wrong keyboard layout matches too."""
    context = context_of(request)
    text = query.q.strip()
    scopes = await _scopes(context, viewer)
    listed = {resource for resource, scope in scopes.items() if scope}
    if await MaySee.holds(context, viewer):
        listed.add("system")
    if text.startswith(ACTION):
        entries = [*_fixed("action", ACTIONS, listed), *await _orders(context, viewer, scopes["robots"], text[1:])]
        chosen = choose(entries, text[1:])
    elif text:
        chosen = choose([*_fixed("page", PAGES, listed), *_objects(context, scopes)], text)
        chosen = [*await _items(context, viewer, scopes["workqueues"], text), *chosen]
        chosen += choose(_fixed("action", ACTIONS, listed), text)
    else:
        chosen = list(_fixed("page", PAGES, listed))
    return tuple(
        Found(group=each.group, title=each.title, sub=each.sub, href=each.href, post=each.post, state=each.state)
        for each in chosen
    )


async def _scopes(context: Context, viewer: Viewer) -> dict[str, Scope]:
    known, access = known_namespaces(context), context.services.access
    resources = (*(resource for resource, *_ in KINDS), "audit")
    return {each: await scope_of(access, viewer.user, "list", each, known) for each in resources}


def _fixed(group: Group, rows: Iterable[tuple[str, str, str, str]], listed: set[str]) -> Iterator[Entry]:
    """Pages and actions, found by their titles in every language."""
    for resource, title, href, words in rows:
        if resource and resource not in listed:
            continue
        said = []
        for language in LANGUAGES:
            with speaking(language):
                said.append(_(title))
        yield Entry(group, _(title), href, words=" ".join([*said, words]))


def _objects(context: Context, scopes: dict[str, Scope]) -> Iterator[Entry]:
    for resource, group, store, base in KINDS:
        scope = scopes[resource]
        if not scope:
            continue
        for each in scope.filter(getattr(context.services.cache, store)):
            meta = each.metadata
            href = f"{base}{meta.name}" if base.endswith("=") else f"{base}/{meta.namespace}/{meta.name}"
            yield Entry(group, meta.name, href, sub=meta.namespace, state=_state(each))


def _state(it: Any) -> str:
    return str(getattr(it.status, "phase", "") or "") if hasattr(it, "status") else ""


async def _orders(context: Context, viewer: Viewer, scope: Scope, text: str) -> list[Entry]:
    """What can be done at once with robots that the text names: only what can be taken back as easily."""
    words = {word for spelling in spellings(text) for word in spelling.split()}
    if not words:
        return []
    named = [
        robot
        for robot in scope.filter(context.services.cache.robots)
        if any(word in robot.metadata.name for word in words)
    ]
    named.sort(key=lambda robot: (len(robot.metadata.name), robot.metadata.name))
    found: list[Entry] = []
    for robot in named[:5]:
        meta = robot.metadata
        page = f"/robots/{meta.namespace}/{meta.name}"
        if await may_control(context, viewer, meta.namespace, meta.name):
            found += _orders_of(robot, page)
        if await allows(context.services.access, viewer.user, Right("create", "robots/run", meta.namespace, meta.name)):
            title = _("Run on %(name)s", name=meta.name)
            found.append(Entry("action", title, f"/run?robot={meta.namespace}/{meta.name}", meta.namespace, "run пуск"))
    return found


def _orders_of(robot: Robot, page: str) -> Iterator[Entry]:
    meta, wish = robot.metadata, robot.spec.desired_state
    name, space = meta.name, meta.namespace
    if wish is not RobotDesiredState.RUNNING:
        yield Entry("action", _("Start %(name)s", name=name), page, space, "start запустить", post=f"{page}/start")
    else:
        yield Entry("action", _("Pause %(name)s", name=name), page, space, "pause приостановить", post=f"{page}/pause")
    if wish is not RobotDesiredState.STOPPED:
        # this one asks: its dialog names what it interrupts
        yield Entry("action", _("Stop %(name)s…", name=name), f"{page}?do=stop", space, "stop остановить")


async def _items(context: Context, viewer: Viewer, scope: Scope, text: str) -> list[Entry]:
    """Work items by the beginning of their reference, in queues whose items the viewer may list."""
    if not scope or len(text) < 3:  # noqa: PLR2004  shorter ones match everything
        return []
    places = []
    for queue in scope.filter(context.services.cache.queues)[:100]:
        meta = queue.metadata
        if await allows(
            context.services.access, viewer.user, Right("list", "workqueues/items", meta.namespace, meta.name)
        ):
            places.append((meta.namespace, meta.name))
    try:
        async with context.services.database.connection() as connection:
            rows = await by_reference(connection, places, text, 5)
    except ArchiveUnavailableError:
        return []
    return [
        Entry(
            "item",
            row["reference"],
            f"/queues/{row['namespace']}/{row['name']}/items/{row['id']}",
            sub=f"{row['namespace']}/{row['name']}",
            state=row["state"],
        )
        for row in rows
    ]
