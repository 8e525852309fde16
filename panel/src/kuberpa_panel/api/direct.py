"""Routes for robots, which ask thousands of times a second: FastAPI describes them, and is then left out of the way.

The handler is called with the request, the path's parameters, the Idempotency-Key and the viewer. It reads the body
by itself and writes its answer by itself. That takes a third of the time that resolving dependencies and encoding by
FastAPI take; what the description says of guard, parameters and answers is what the handler does.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from kuberpa_panel.api.guards import SignedIn
from kuberpa_panel.api.viewer import current_viewer

KEY: Final = "idempotency-key"


class DirectRoute(APIRoute):
    """A route whose only guard is SignedIn: whatever it calls asks for rights itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What Starlette calls."""
        guards = [part.call for part in self.dependant.dependencies]
        if len(guards) != 1 or not isinstance(guards[0], SignedIn):
            raise TypeError(f"{self.path}: a DirectRoute has exactly one guard, SignedIn")
        endpoint = self.endpoint
        takes_key = "idempotency_key" in {field.name for field in self.dependant.header_params}

        async def handle(request: Request) -> Response:
            more = {"idempotency_key": request.headers.get(KEY)} if takes_key else {}
            viewer = await current_viewer(request)
            answer: Response = await endpoint(request=request, viewer=viewer, **request.path_params, **more)
            return answer

        return handle
