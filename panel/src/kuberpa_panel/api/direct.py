"""Routes for robots, which ask thousands of times a second: FastAPI describes them, and is then left out of the way.

The handler is called with the request, the path's parameters, the Idempotency-Key and the viewer. It reads the body
by itself and writes its answer by itself. That takes a third of the time that resolving dependencies and encoding by
FastAPI take; what the description says of guard, parameters and answers is what the handler does.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from kuberpa_panel.api.guards import SignedIn
from kuberpa_panel.api.viewer import current_viewer

KEY: Final = "idempotency-key"
Schema = dict[str, Any]


def body(model: type[BaseModel], *from_path: str) -> Schema:
    """What the description says of a body that the handler reads by itself; some fields come from the path."""
    document = model.model_json_schema(by_alias=True)
    schema = _written_out(document, document.get("$defs", {}))
    schema["properties"] = {name: each for name, each in schema["properties"].items() if name not in from_path}
    schema["required"] = [name for name in schema.get("required", ()) if name not in from_path]
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def _written_out(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_written_out(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _written_out(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {name: _written_out(each, definitions) for name, each in node.items() if name != "$defs"}


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
