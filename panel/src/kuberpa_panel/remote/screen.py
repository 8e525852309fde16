"""What a person's page may tell a robot's screen: keys and mouse only with the right to control, and written down."""

import json
from typing import Any, Final

from kuberpa_panel.api.access import require
from kuberpa_panel.api.errors import problem_of
from kuberpa_panel.api.problems import Right
from kuberpa_panel.remote.sockets import Visit

MAX_CHARS: Final = 64 * 1024


class ScreenGate:
    """Stands between one page and one robot."""

    def __init__(self, visit: Visit, namespace: str, robot: str) -> None:
        self._visit, self._namespace, self._robot = visit, namespace, robot
        self._right = Right("create", "robots/control", namespace, robot)
        self._controls = False

    async def admit(self, message: str | bytes) -> str | None:
        """What goes on to the robot: only what this page knows, and may."""
        if isinstance(message, bytes) or len(message) > MAX_CHARS:
            return None
        try:
            body: Any = json.loads(message)
        except ValueError:
            return None
        if not isinstance(body, dict):
            return None
        kept: dict[str, Any] = {"shown": body["shown"]} if isinstance(body.get("shown"), int) else {}
        if body.get("take") and await self._take(force=bool(body.get("force"))):
            kept |= {"take": True, "force": bool(body.get("force"))}
        if body.get("release"):
            await self.release()
            kept["release"] = True
        if self._controls and isinstance(body.get("events"), list):
            kept["events"] = body["events"]
        return json.dumps(kept) if kept else None

    async def release(self) -> None:
        """The page gives control back, or is closed."""
        if self._controls:
            self._controls = False
            self._visit.needs.remove(self._right)
            await self._visit.record("control.release", self._namespace, self._robot)

    async def _take(self, *, force: bool) -> bool:
        try:
            await require(self._visit.context.services.access, self._visit.viewer.user, self._right, fresh=True)
            if not self._controls:
                await self._visit.record("control.ask", self._namespace, self._robot, force=force)
        except Exception as error:  # noqa: BLE001  whatever is wrong is said to the person
            await self._visit.websocket.send_text(json.dumps({"refused": problem_of(error).detail}))
            return False
        if not self._controls:
            self._controls = True
            self._visit.needs.append(self._right)
        return True
