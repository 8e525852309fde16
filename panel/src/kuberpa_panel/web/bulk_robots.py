"""What is asked of many robots: looked at first where it interrupts something, asked again when that has changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from kuberpa.activity import ActivityItem, ActivityPhase
from kuberpa.robot import Robot
from kuberpa.robot_orders import RobotAction
from kuberpa_panel.api import orders, robots
from kuberpa_panel.api.access import allows
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import SignedIn, Visible, control_rights, guarded
from kuberpa_panel.api.orders import Answer, ManyRobots, RobotPlace
from kuberpa_panel.api.problems import InvalidProblem
from kuberpa_panel.api.robots import RobotQuery
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _
from kuberpa_panel.web.render import page

router = APIRouter(include_in_schema=False)
OWN: Final = SignedIn("orders.order_many checks each robot")
INTERRUPTING: Final = frozenset({RobotAction.STOP, RobotAction.RESTART})
SHOWN: Final = 100
LIST: Final = Visible("list", "robots")


@dataclass(frozen=True, slots=True)
class Look:
    """What an order would do, found out without doing it."""

    places: tuple[RobotPlace, ...]
    allowed: tuple[Robot, ...]
    refused: tuple[tuple[RobotPlace, str], ...]
    interrupted: tuple[ActivityItem, ...]

    @property
    def seal(self) -> str:
        """What somebody was shown: when it is another, they are asked again."""
        return f"{len(self.places)}-{len(self.allowed)}-{len(self.interrupted)}"


@router.post("/robots/order")
@router.post("/robots/order/{how}")
async def order_robots(  # noqa: PLR0913, PLR0917  the parts of one form
    request: Request,
    viewer: Annotated[Viewer, guarded(OWN)],
    action: Annotated[RobotAction, Form()],
    how: Literal["", "force", "matching"] = "",
    robot: Annotated[list[str] | None, Form(max_length=orders.MANY)] = None,
    matching: Annotated[str, Form(max_length=2000)] = "",
    filter: Annotated[str, Form(max_length=2000)] = "",  # noqa: A002  the field of the form
    force: Annotated[bool, Form()] = False,
    seen: Annotated[str, Form(max_length=80)] = "",
    typed: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Ask the same of robots: of those that were chosen, or of all that match a filter of the list.

    What interrupts work is looked at first; `seen` is what the look showed. By force it takes the number of robots.
    """
    context = context_of(request)
    force = force or how == "force"
    matching = matching or (f"&{filter}" if how == "matching" else "")
    places = await _matching(context, viewer, matching) if matching else _places(robot or [])
    if not places:
        raise InvalidProblem(_("Choose robots first: nothing was asked."))
    wanted = ManyRobots(action=action, force=force, robots=places)
    if action in INTERRUPTING or matching:
        look = await look_at(context, viewer, places)
        known = seen == look.seal
        if not known or (force and typed.strip() != str(len(look.allowed))):
            values: dict[str, Any] = {"order": look, "wanted": wanted, "matching": matching}
            values |= {"changed": bool(seen) and not known, "mistyped": known and force}
            return await page(request, viewer, "robots/order_look.html", shown=SHOWN, **values)
    answers = await orders.order_many(context, viewer, wanted)
    return await page(request, viewer, "robots/ordered.html", wanted=wanted, **_sorted(answers))


async def look_at(context: Context, viewer: Viewer, places: Sequence[RobotPlace]) -> Look:
    """Which of them may be asked, and what runs on those."""
    allowed: list[Robot] = []
    refused: list[tuple[RobotPlace, str]] = []
    for place in places:
        found = context.services.cache.robots.get(place.namespace, place.name)
        if found is None or place.uid not in {"", found.metadata.uid}:
            refused.append((place, _("It is not there any more.")))
            continue
        rights = control_rights(place.namespace, place.name)
        missing = [each for each in rights if not await allows(context.services.access, viewer.user, each)]
        if missing:
            refused.append((place, _("You need the right to %(right)s.", right=missing[0])))
        else:
            allowed.append(found)
    running = tuple(
        item
        for each in allowed
        for item in context.services.cache.on_robot(each.metadata.namespace, each.metadata.name)
        if item.status.phase in {ActivityPhase.RUNNING, ActivityPhase.ASSIGNED, ActivityPhase.STOPPING}
    )
    return Look(tuple(places), tuple(allowed), tuple(refused), running)


def _places(texts: Sequence[str]) -> tuple[RobotPlace, ...]:
    """From `namespace/name` or `namespace/name/uid`. Raises InvalidProblem."""
    try:
        parts = [(*text.split("/"), "", "")[:3] for text in dict.fromkeys(texts)]
        return tuple(RobotPlace(namespace=space, name=name, uid=uid) for space, name, uid in parts)
    except ValidationError:
        raise InvalidProblem(_("A robot is named namespace/name: nothing was asked.")) from None


async def _matching(context: Context, viewer: Viewer, query: str) -> tuple[RobotPlace, ...]:
    """All that a filter of the list matches now. Raises a Problem."""
    values: dict[str, Any] = {}
    for key, value in parse_qsl(query):
        values.setdefault(key, []).append(value)
    plain = {key: each if key == "phase" else each[-1] for key, each in values.items() if key not in {"page", "size"}}
    try:
        wanted = RobotQuery.of({key: value for key, value in plain.items() if key != "csrf"})
    except ValidationError:
        raise InvalidProblem(_("The filter is not one of this list: nothing was asked.")) from None
    scope = await LIST.everywhere(context, viewer)
    if wanted.namespace:
        scope = scope.within(wanted.namespace)
    rows = robots.matching(scope.filter(context.services.cache.robots), wanted)
    if len(rows) > orders.MANY:
        raise InvalidProblem(
            _("%(num)s robots match; at most %(most)s can be asked at once.", num=len(rows), most=orders.MANY)
        )
    return tuple(RobotPlace(namespace=row.namespace, name=row.name, uid=row.uid) for row in rows)


def _sorted(answers: Sequence[Answer]) -> dict[str, Any]:
    undo: dict[RobotAction, list[str]] = {}
    for answer in answers:
        if (back := answer.undo) is not None:
            undo.setdefault(back, []).append(f"{answer.namespace}/{answer.name}")
    return {
        "refused": [answer for answer in answers if answer.error],
        "asked": [answer for answer in answers if answer.robot],
        "undo": undo,
    }
