"""Run, stop and kill on behalf of a viewer: what the pages' forms and the API's requests come down to."""

import json
from typing import Any, Final

from pydantic import ValidationError

from kuberpa.activity import MAX_INPUT_BYTES, ActivityItem, ActivityItemSpec, DesiredState
from kuberpa.client import ApiError, InvalidError
from kuberpa.definition_rights import DEFINITION_RIGHTS, ROBOT_ACTIONS
from kuberpa_panel.api.access import require
from kuberpa_panel.api.context import Context
from kuberpa_panel.api.problems import ConflictProblem, FieldError, InvalidProblem, Right, from_api_error
from kuberpa_panel.api.viewer import Viewer
from kuberpa_panel.language import _, dates, marked
from kuberpa_panel.services.activities import InputError
from kuberpa_panel.services.audit import tell

ONE_TARGET: Final = marked("name one robot with robotRef, or choose among robots with robotSelector; not both")


async def run(  # noqa: PLR0913  who, where, and what
    context: Context,
    viewer: Viewer,
    namespace: str,
    spec: dict[str, Any],
    *,
    name: str = "",
    labels: dict[str, str] | None = None,
) -> ActivityItem:
    """Create an ActivityItem.

    Raises ForbiddenProblem without `create activityitems`, or without `create robots/run` on the robot (on every
    robot of the namespace for a selector), or without what its definition takes besides (DEFINITION_RIGHTS);
    InvalidProblem naming each wrong field.
    """
    access, user = context.services.access, viewer.user
    await require(access, user, Right("create", "activityitems", namespace))
    parsed = _parse(spec)
    robot = parsed.robot_ref.name if parsed.robot_ref else ""
    await require(access, user, Right("create", "robots/run", namespace, robot))
    if (special := DEFINITION_RIGHTS.get(parsed.definition)) is not None:
        await require(access, user, Right("create", f"robots/{special}", namespace, robot))
    if parsed.definition in ROBOT_ACTIONS:
        await require(access, user, Right("patch", "robots", namespace, robot))
    tell(
        verb="run", kind="ActivityItem", namespace=namespace, name=name, new={"def": parsed.definition, "robot": robot}
    )
    try:
        item = await context.services.activities.create(user, namespace, spec, name=name, labels=labels)
    except InputError as error:
        raise too_large(str(error)) from error
    except ApiError as error:
        raise from_api_error(error) from error
    tell(name=item.metadata.name)
    return item


async def end(  # noqa: PLR0913, PLR0917  who, where, and what
    context: Context, viewer: Viewer, namespace: str, name: str, state: DesiredState, uid: str
) -> ActivityItem:
    """Stop or kill an item, whose right MayStop has checked; with a uid only that very item.

    Raises ConflictProblem when it has ended already, NotFoundProblem.
    """
    activities = context.services.activities
    item = activities.get(namespace, name)
    if item is not None and uid not in {"", item.metadata.uid}:
        raise ConflictProblem(
            _("%(name)s is another activity by now: one of the same name was created since.", name=name)
        )
    if item is not None and item.status.is_final:
        raise ConflictProblem(
            _(
                "%(name)s has already ended: %(phase)s. There is nothing left to stop.",
                name=name,
                phase=item.status.phase,
            )
        )
    act = activities.stop if state is DesiredState.STOP else activities.kill
    try:
        return await act(viewer.user, namespace, name, uid=uid)
    except InvalidError as error:
        # nothing but desiredState is sent, and it moves only from Run over Stop to Kill
        raise ConflictProblem(
            _(
                "%(name)s cannot be asked to %(verb)s any more: %(error)s",
                name=name,
                verb=state.value.lower(),
                error=error,
            )
        ) from error
    except ApiError as error:
        raise from_api_error(error) from error


def _parse(spec: dict[str, Any]) -> ActivityItemSpec:
    try:
        parsed = ActivityItemSpec.of(spec)
    except ValidationError as error:
        raise InvalidProblem(_("The activity is not valid."), errors=field_errors(error, "spec")) from error
    if (parsed.robot_ref is None) == (parsed.robot_selector is None):
        raise InvalidProblem(_("The activity is not valid."), errors=(FieldError("spec.robotRef", ONE_TARGET),))
    unknown = [key for key in parsed.input if key not in {"args", "kwargs"}]
    if unknown:
        message = _(
            "has %(names)s; only args (a list) and kwargs (an object) belong here", names=", ".join(sorted(unknown))
        )
        raise InvalidProblem(_("The activity is not valid."), errors=(FieldError("spec.input", message),))
    if len(json.dumps(parsed.input, ensure_ascii=False).encode("utf-8", "replace")) > MAX_INPUT_BYTES:
        raise too_large("")
    return parsed


def too_large(message: str) -> InvalidProblem:
    """The input exceeds MAX_INPUT_BYTES."""
    limit = _(
        "at most %(limit)s bytes of JSON are accepted; put larger data into a file the robot can read",
        limit=dates.number(MAX_INPUT_BYTES),
    )
    return InvalidProblem(_("The input is too large."), errors=(FieldError("spec.input", message or limit),))


def field_errors(error: ValidationError, prefix: str) -> tuple[FieldError, ...]:
    """Pydantic's findings as paths of the resource."""
    return tuple(
        FieldError(".".join([prefix, *map(str, each["loc"])]), each["msg"]) for each in error.errors(include_url=False)
    )
