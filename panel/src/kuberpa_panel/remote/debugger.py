"""An editor's way to the debugger of an activity: bytes, which are the Debug Adapter Protocol."""

from contextlib import suppress

from starlette.websockets import WebSocket

from kuberpa.wire import StreamKind
from kuberpa_panel.api.access import ON_ROBOT, allows, require
from kuberpa_panel.api.context import context_of
from kuberpa_panel.api.problems import ConflictProblem, NotFoundProblem, Right
from kuberpa_panel.database.pool import ArchiveUnavailableError
from kuberpa_panel.language import _
from kuberpa_panel.remote.console import require_debugging
from kuberpa_panel.remote.sockets import Doorkeeper, Serve, Visit, pass_on, receive_visitor
from kuberpa_panel.remote.wish import Wish


async def serve_debugger(websocket: WebSocket, doorkeeper: Doorkeeper) -> None:
    """For as long as the editor, the activity and the right are there."""
    namespace, name = websocket.path_params["namespace"], websocket.path_params["name"]

    async def prepare(visit: Visit) -> Serve:
        item = context_of(websocket).services.activities.get(namespace, name)
        visit.needs.append(await _right(visit, namespace, name, item.status.robot if item else ""))
        if item is None:
            raise NotFoundProblem(f"There is no activity {namespace}/{name} in the cluster.")
        robot = item.status.robot
        if item.spec.debug is None:
            raise ConflictProblem(_("%(name)s waits for no debugger: it was created without spec.debug.", name=name))
        if not robot or item.status.is_final:
            raise ConflictProblem(_("%(name)s is not on a robot now.", name=name))
        require_debugging(context_of(websocket), namespace, robot)
        await visit.record("debugger.attach", namespace, robot, activity=name)
        options = {"uid": item.metadata.uid, "token": item.status.lease.token}
        wish = Wish(namespace, robot, StreamKind.DEBUGGER, visit.viewer.user.name, options)

        async def serve(visit: Visit) -> str:
            try:
                return await pass_on(visit, await visit.context.services.broker.open(wish))
            finally:
                with suppress(ArchiveUnavailableError):
                    await visit.record("debugger.leave", namespace, robot, activity=name)

        return serve

    await receive_visitor(websocket, doorkeeper, [], prepare)


async def _right(visit: Visit, namespace: str, name: str, robot: str) -> Right:
    """The one by which the viewer may: on the activity, or on its robot. Raises ForbiddenProblem."""
    own = Right("create", "activityitems/debug", namespace, name)
    on_robot = Right("create", ON_ROBOT["activityitems/debug"], namespace, robot)
    access, user = visit.context.services.access, visit.viewer.user
    if robot and not await allows(access, user, own) and await allows(access, user, on_robot):
        return on_robot
    await require(access, user, own)
    return own
