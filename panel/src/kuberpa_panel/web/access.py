"""The page Access: who is given which role, who can do what, what somebody can do; and who is signed in."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kuberpa.rolebinding import AccessSubject, RobotRoleBinding, RobotRoleBindingSpec, SubjectKind
from kuberpa.roles import Role
from kuberpa_panel.api import grants
from kuberpa_panel.api.access import allows, require, scope_of
from kuberpa_panel.api.context import Context, context_of
from kuberpa_panel.api.guards import Allowed, SignedIn, guarded, known_namespaces
from kuberpa_panel.api.problems import FieldError, InvalidProblem, NotFoundProblem, Problem, Right
from kuberpa_panel.api.viewer import CurrentViewer, Viewer
from kuberpa_panel.api.who import ASKED, ROLES, who_can
from kuberpa_panel.language import _
from kuberpa_panel.web.render import page

router = APIRouter(include_in_schema=False)
LIST: Final = ("list", "robotrolebindings")
KINDS: Final = {kind.value.lower(): kind for kind in SubjectKind}


@dataclass(frozen=True, slots=True)
class Question:
    """What the page is asked about."""

    verb: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    user: str = ""
    group: str = ""


@router.get("/access", dependencies=[guarded(SignedIn("shows what the viewer may see of it"))])
async def show(request: Request, viewer: CurrentViewer) -> Response:
    """Everything about access, as far as the viewer may see it."""
    asked = {name: request.query_params.get(name, "") for name in Question.__dataclass_fields__}
    return await _page(request, viewer, Question(**asked))


async def _page(request: Request, viewer: Viewer, asked: Question) -> Response:
    context = context_of(request)
    service, user = context.services.access, viewer.user
    known = sorted(known_namespaces(context) | {context.services.gsettings.namespace})
    scope = await scope_of(service, user, *LIST, known)
    seen = [each for each in known if scope.covers(each)]
    namespace = asked.namespace or (seen[0] if seen else known[0])
    answer = what = None
    problem: Problem | None = None
    try:
        if asked.verb and asked.resource:
            right = Right(asked.verb, asked.resource, namespace, asked.name)
            await require(service, user, Right(*LIST, namespace))
            answer = who_can(context, right)
        groups = tuple(filter(None, map(str.strip, asked.group.split(","))))
        what = await grants.what_of(context, viewer, namespace, asked.user, groups)
    except Problem as refused:
        problem = refused
    return await page(
        request,
        viewer,
        "access/page.html",
        asked=replace(asked, namespace=namespace),
        spaces=known,
        bindings=grants.select(scope.filter(context.services.cache.role_bindings)),
        may_see=bool(scope),
        may_give=[each for each in known if await allows(service, user, Right("create", LIST[1], each))],
        roles=ROLES,
        verbs=sorted({verb for verb, _resource in ASKED}),
        resources=sorted({resource for _verb, resource in ASKED}),
        answer=answer,
        what=what,
        problem=problem,
        status=problem.status if problem else 200,
    )


@dataclass(frozen=True, slots=True)
class GiveForm:
    """The form as it was filled in."""

    namespace: str = ""
    name: str = ""
    role: str = Role.VIEWER.value
    subjects: str = ""
    scope: str = "namespace"
    names: str = ""
    labels: str = ""
    generation: int = 0
    """Of the binding that is changed; 0 for a new one."""
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, binding: RobotRoleBinding) -> "GiveForm":
        """What there is. Raises InvalidProblem for what the form cannot say."""
        spec, meta = binding.spec, binding.metadata
        choice = spec.robots
        if choice is not None and choice.selector is not None and choice.selector.match_expressions:
            raise InvalidProblem(_("This form knows no matchExpressions: change this one with kubectl edit."))
        labels = choice.selector.match_labels if choice is not None and choice.selector is not None else {}
        scope = "namespace" if choice is None else "names" if choice.names is not None else "labels"
        return cls(
            namespace=meta.namespace,
            name=meta.name,
            role=spec.role.value,
            subjects="\n".join(map(_line, spec.subjects)),
            scope=scope,
            names=", ".join(choice.names or ()) if choice is not None else "",
            labels=", ".join(f"{key}={value}" for key, value in labels.items()),
            generation=meta.generation,
        )

    def spec(self) -> RobotRoleBindingSpec:
        """What it says. Raises InvalidProblem naming the field."""
        body: dict[str, Any] = {"role": self.role, "subjects": [_subject(line) for line in _lines(self.subjects)]}
        if not body["subjects"]:
            raise _wrong(
                "subjects", _("Name at least one: User anna, Group night-shift or ServiceAccount reports/bot.")
            )
        if self.scope == "names":
            body["robots"] = {"names": _words(self.names)}
        if self.scope == "labels":
            body["robots"] = {"selector": {"matchLabels": dict(map(_label, _words(self.labels)))}}
        try:
            return RobotRoleBindingSpec.of(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = str(first["loc"][0])
            raise _wrong({"robots": self.scope}.get(where, where), first["msg"]) from error


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("\n", ",").split(",") if word.strip()]


def _label(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise _wrong("labels", _("%(word)s is no label: write key=value, separated by commas.", word=word))
    return key.strip(), value.strip()


def _subject(line: str) -> dict[str, str]:
    kind, _space, rest = line.partition(" ")
    known = KINDS.get(kind.lower().rstrip(":"))
    if known is None or not rest.strip():
        raise _wrong(
            "subjects",
            _("%(line)s: write User anna, Group night-shift or ServiceAccount reports/bot, one a line.", line=line),
        )
    home, slash, name = rest.strip().rpartition("/") if known is SubjectKind.SERVICE_ACCOUNT else ("", "", rest.strip())
    return {"kind": known.value, "name": name} | ({"namespace": home} if slash else {})


def _line(subject: AccessSubject) -> str:
    home = f"{subject.namespace}/" if subject.namespace else ""
    return f"{subject.kind.value} {home}{subject.name}"


def _wrong(name: str, message: str) -> InvalidProblem:
    return InvalidProblem(message, errors=(FieldError(name, message),))


@router.get("/access/give", dependencies=[guarded(SignedIn("the form; giving asks for `create robotrolebindings`"))])
async def show_form(request: Request, viewer: CurrentViewer, namespace: str = "") -> Response:
    """A form for a role to give."""
    return await _form(request, viewer, GiveForm(namespace=namespace))


@router.get("/access/bindings/{namespace}/{name}")
async def show_binding(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(Allowed("get", "robotrolebindings"))],
) -> Response:
    """The same form, with what there is."""
    return await _form(request, viewer, GiveForm.of(_found(context_of(request), namespace, name)))


@router.post("/access/give", dependencies=[guarded(SignedIn("asks for `create` or `update robotrolebindings` itself"))])
async def give(  # noqa: PLR0913, PLR0917  the fields of one form
    request: Request,
    viewer: CurrentViewer,
    namespace: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "",
    subjects: Annotated[str, Form()] = "",
    scope: Annotated[str, Form()] = "namespace",
    names: Annotated[str, Form()] = "",
    labels: Annotated[str, Form()] = "",
    generation: Annotated[int, Form(ge=0)] = 0,
) -> Response:
    """Give a role, or change what is given, then back to the list."""
    form = GiveForm(namespace, name.strip(), role, subjects, scope, names, labels, generation)
    context = context_of(request)
    try:
        verb = "update" if generation else "create"
        await require(context.services.access, viewer.user, Right(verb, LIST[1], namespace, name if generation else ""))
        if generation:
            body = grants.ChangedBinding(generation=generation, spec=form.spec())
            await grants.give_instead(context, viewer, namespace, form.name, body)
        else:
            await grants.give(context, viewer, namespace, _new(form))
    except Problem as problem:
        errors = {error.field: error.message for error in problem.errors}
        return await _form(request, viewer, replace(form, errors=errors), problem)
    return RedirectResponse("/access", 303)


def _new(form: GiveForm) -> grants.NewBinding:
    try:
        return grants.NewBinding(name=form.name, spec=form.spec())
    except ValidationError as error:
        raise _wrong("name", _("Lower-case letters, digits and dashes, for example night-shift.")) from error


@router.post("/access/bindings/{namespace}/{name}/delete")
async def take_back(
    request: Request,
    namespace: str,
    name: str,
    viewer: Annotated[Viewer, guarded(Allowed("delete", "robotrolebindings"))],
) -> Response:
    """Take a role back, then back to the list."""
    await grants.take_back(context_of(request), viewer, namespace, name)
    return RedirectResponse("/access", 303)


async def _form(request: Request, viewer: Viewer, form: GiveForm, problem: Problem | None = None) -> Response:
    known = sorted(known_namespaces(context_of(request)) | {context_of(request).services.gsettings.namespace})
    return await page(
        request,
        viewer,
        "access/give.html",
        form=form,
        roles=ROLES,
        spaces=known,
        problem=problem,
        status=problem.status if problem else 200,
    )


def _found(context: Context, namespace: str, name: str) -> RobotRoleBinding:
    found = context.services.cache.role_bindings.get(namespace, name)
    if found is None:
        raise NotFoundProblem(_("There is no RobotRoleBinding %(namespace)s/%(name)s.", namespace=namespace, name=name))
    return found


# Sessions


@router.get("/access/sessions", dependencies=[guarded(SignedIn("one's own; others take `list sessions`"))])
async def show_sessions(request: Request, viewer: CurrentViewer, user: str | None = None) -> Response:
    """Who is signed in: oneself, or others for those who may see them."""
    context = context_of(request)
    home = context.services.gsettings.namespace
    may_list = await allows(context.services.access, viewer.user, Right("list", "sessions", home))
    name = viewer.user.name if user is None else user
    return await page(
        request,
        viewer,
        "access/sessions.html",
        user=name,
        may_list=may_list,
        may_end=name == viewer.user.name
        or await allows(context.services.access, viewer.user, Right("delete", "sessions", home)),
        sessions=(await grants.sessions_of(context, viewer, name)).items,
    )


@router.post("/access/sessions/end", dependencies=[guarded(SignedIn("one's own; others take `delete sessions`"))])
async def end_sessions(
    request: Request,
    viewer: CurrentViewer,
    user: Annotated[str, Form()],
    id: Annotated[str, Form()] = "",  # noqa: A002  the field of the form
) -> Response:
    """End one session, or all of a user, then back to the list."""
    await grants.end_of(context_of(request), viewer, user, id)
    return RedirectResponse("/access/sessions", 303)
