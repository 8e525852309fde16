import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from kuberpa.activity import MAX_INPUT_BYTES
from kuberpa.robot import Robot
from kuberpa.wire import Definition
from kuberpa_panel.api import actions, browse
from kuberpa_panel.api.access import Scope
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import SignedIn, Visible, guarded, require_on_activity
from kuberpa_panel.api.problems import FieldError, InvalidProblem, Problem, Right
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.language import _, dates
from kuberpa_panel.web.render import common, fragment, page
from kuberpa_panel.web.robots import definitions_of

router = APIRouter(include_in_schema=False)
LIST: Final = Visible("list", "robots")
FIELDS: Final = {
    "spec.robotRef": "robot", "spec.def": "definition", "spec.timeoutSeconds": "timeout",
    "spec.retry.limit": "retries", "spec.priority": "priority",
}  # fmt: skip
"""Fields of the resource as the form calls them; whatever else is wrong is shown above the form."""
TYPED: Final = ("target", "definition", "args", "kwargs", "timeout", "retries", "priority")


@dataclass(frozen=True, slots=True)
class RunForm:
    """What the form holds, as text, so that nothing typed is ever lost."""

    target: str = ""
    """namespace/name of the robot."""
    definition: str = ""
    args: str = "[]"
    kwargs: str = "{}"
    timeout: str = ""
    retries: str = "0"
    priority: str = "0"
    beside: bool = False
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Namespace of the robot."""
        return self.target.partition("/")[0]

    @property
    def robot(self) -> str:
        """Name of the robot."""
        return self.target.partition("/")[2]

    def spec(self) -> dict[str, Any]:
        """The ActivityItem's spec. Raises InvalidProblem naming the form's fields."""
        errors: dict[str, str] = {}
        if not self.robot:
            errors["robot"] = _("Choose a robot.")
        if not self.definition:
            errors["definition"] = _("Choose what to run.")
        if len(self.args.encode()) + len(self.kwargs.encode()) > MAX_INPUT_BYTES:
            errors["args"] = _(
                "The arguments are too large: at most %(limit)s KiB of JSON are accepted.",
                limit=dates.number(MAX_INPUT_BYTES // 1024),
            )
        args, kwargs = _json("args", self.args, list, errors), _json("kwargs", self.kwargs, dict, errors)
        numbers = {name: _number(name, getattr(self, name), errors) for name in ("timeout", "retries", "priority")}
        if errors:
            raise InvalidProblem("", errors=tuple(FieldError(*each) for each in errors.items()))
        spec: dict[str, Any] = {
            "robotRef": {"name": self.robot},
            "def": self.definition,
            "input": {"args": args, "kwargs": kwargs},
            "async": self.beside,
            "priority": numbers["priority"] or 0,
            "retry": {"limit": numbers["retries"] or 0},
        }
        return spec | ({"timeoutSeconds": numbers["timeout"]} if numbers["timeout"] is not None else {})

    def with_problem(self, problem: InvalidProblem) -> "RunForm":
        """The same input with each message at its field."""
        errors = {FIELDS.get(error.field, _short(error.field)): error.message for error in problem.errors}
        return replace(self, errors=errors or {"form": problem.detail})


def _short(name: str) -> str:
    if name.startswith("spec.input"):
        return "kwargs" if ".kwargs" in name else "args"
    return name


def _json(name: str, text: str, kind: type, errors: dict[str, str]) -> Any:
    example = '[["echo", "hi"]]' if kind is list else '{"check": false}'
    word = _("a list") if kind is list else _("an object")
    try:
        value = json.loads(text or ("[]" if kind is list else "{}"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = " " + _("in line %(line)s, column %(column)s", line=error.lineno, column=error.colno)
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        errors.setdefault(
            name,
            _(
                "Not JSON%(where)s: %(what)s. It would be right like this: %(example)s",
                where=where,
                what=what,
                example=example,
            ),
        )
        return None
    if not isinstance(value, kind):
        errors.setdefault(name, _("Must be %(word)s, like %(example)s", word=word, example=example))
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(_("%(name)s is not a JSON number", name=name))


def _number(name: str, text: str, errors: dict[str, str]) -> int | None:
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        errors[name] = _("Must be a whole number, not %(text)r.", text=text[:40])
        return None


@router.get("/run")
async def show_form(  # noqa: PLR0913, PLR0917  the parameters of the URL
    request: Request,
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
    robot: Annotated[str, Query(max_length=400)] = "",
    definition: Annotated[str, Query(max_length=253)] = "",
    again: Annotated[str, Query(max_length=400, description="namespace/name of the activity to repeat")] = "",
) -> Response:
    """The form; prefilled from an earlier activity with `again`."""
    context = context_of(request)
    form = RunForm(target=robot, definition=definition)
    if again:
        form = await _repeat(context, viewer, again)
    return await _page(request, viewer, scope, form)


@router.get("/run/definition")
async def show_definition(
    request: Request,
    viewer: CurrentViewer,
    scope: Annotated[Scope, guarded(LIST)],
    target: str = "",
    definition: str = "",
) -> Response:
    """The part of the form that depends on the robot and the definition."""
    values = await _choices(context_of(request), scope, RunForm(target=target, definition=definition))
    return HTMLResponse(fragment("run/definition.html", common(request, viewer) | values))


@router.post("/run")
async def run(
    request: Request,
    viewer: Annotated[Viewer, guarded(SignedIn("actions.run checks the target"))],
) -> Response:
    """Create the ActivityItem and go to its page; or show the form again, with everything that was typed."""
    context = context_of(request)
    data = {key: str(value) for key, value in (await request.form()).items()}
    typed: dict[str, Any] = {key: data[key] for key in TYPED if key in data}
    filled = RunForm(**typed, beside="beside" in data)
    try:
        item = await actions.run(context, viewer, filled.namespace, filled.spec())
    except InvalidProblem as problem:
        scope = await LIST.everywhere(context, viewer)
        return await _page(request, viewer, scope, filled.with_problem(problem), status=422)
    except Problem as problem:
        scope = await LIST.everywhere(context, viewer)
        return await _page(request, viewer, scope, filled, status=problem.status, problem=problem)
    return RedirectResponse(f"/activities/{filled.namespace}/{item.metadata.name}", 303)


async def _repeat(context: Context, viewer: Viewer, again: str) -> RunForm:
    namespace, _, name = again.partition("/")
    await require_on_activity(context, viewer, Right("get", "activityitems", namespace, name))
    found = await browse.find_activity(context, namespace, name)
    detail = await browse.activity_detail(context, found)
    spec = detail.spec
    robot = spec.get("robotRef", {}).get("name") or (detail.row.robot if detail.row.assigned else "")
    given = spec.get("input", {})
    return RunForm(
        target=f"{namespace}/{robot}",
        definition=detail.row.definition,
        args=json.dumps(given.get("args", []), indent=2, ensure_ascii=False),
        kwargs=json.dumps(given.get("kwargs", {}), indent=2, ensure_ascii=False),
        timeout=str(spec.get("timeoutSeconds", "")),
        retries=str(spec.get("retry", {}).get("limit", 0)),
        priority=str(spec.get("priority", 0)),
        beside=bool(spec.get("async")),
    )


async def _page(  # noqa: PLR0913  what a page shows
    request: Request,
    viewer: Viewer,
    scope: Scope,
    form: RunForm,
    *,
    status: int = 200,
    problem: Problem | None = None,
) -> Response:
    values = await _choices(context_of(request), scope, form)
    return await page(request, viewer, "run/form.html", status=status, problem=problem, **values)


async def _choices(context: Context, scope: Scope, form: RunForm) -> dict[str, Any]:
    """Robots to choose from, and what the chosen one can run; no more than the viewer may see."""
    robots = sorted(scope.filter(context.services.cache.robots), key=_place)
    chosen = next((robot for robot in robots if _target(robot) == form.target), None)
    if chosen is None and len(robots) == 1 and not form.target:
        chosen = robots[0]
        form = replace(form, target=_target(chosen))
    definitions = await definitions_of(context, chosen) if chosen else ()
    return {
        "form": form,
        "robots": robots,
        "chosen": chosen,
        "definitions": definitions,
        "definition": next((each for each in definitions if each.name == form.definition), None),
        "signature": signature,
        "limit": MAX_INPUT_BYTES,
    }


def signature(definition: Definition) -> list[dict[str, Any]]:
    """Parameters for people: name, type, whether it is required, default, description."""
    schema = definition.parameters
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "type": type_words(part),
            "required": name in required,
            "default": json.dumps(part["default"], ensure_ascii=False) if "default" in part else "",
            "description": str(part.get("description", "")),
        }
        for name, part in schema.get("properties", {}).items()
        if isinstance(part, dict)
    ]


def type_words(part: dict[str, Any]) -> str:
    """What a value of this JSON Schema is, for people."""
    if "enum" in part:
        return " | ".join(json.dumps(value) for value in part["enum"])
    for key in ("anyOf", "oneOf"):
        if key in part:
            return " | ".join(type_words(each) for each in part[key])
    kind = part.get("type", "any")
    if kind == "array" and isinstance(part.get("items"), dict):
        return _("list of %(what)s", what=type_words(part["items"]))
    return str(kind)


def _target(robot: Robot) -> str:
    return f"{robot.metadata.namespace}/{robot.metadata.name}"


def _place(robot: Robot) -> tuple[str, str]:
    return robot.metadata.namespace, robot.metadata.name
