import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from kuberpa import wire
from kuberpa_panel import web
from kuberpa_panel.panel import Panel, running
from kuberpa_panel.remote import peers
from kuberpa_panel.remote import routes as remote
from kuberpa_panel.settings import SESSION_KEY_MIN, Settings

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The panel: the robot plane, probes and metrics. `app.state.panel` is the running Panel."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, app.state.session_key) as panel:
            app.state.panel = panel
            app.state.services = panel.services
            yield

    app = FastAPI(title="kuberpa", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.state.session_key = settings.session_key() or _own_key()
    app.state.oidc = settings.oidc
    app.router.routes.append(WebSocketRoute(wire.PATH, _agent))
    app.router.routes.append(WebSocketRoute(peers.PATH, _replica))
    app.router.routes.extend(remote.SOCKETS)
    app.add_api_route("/healthz", _healthz, include_in_schema=False)
    app.add_api_route("/readyz", _readyz, include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    web.mount(app)
    return app


def _own_key() -> bytes:
    log.warning("no KUBERPA_SESSION_KEY_FILE: sessions end with this process and are unknown to other replicas")
    return secrets.token_bytes(SESSION_KEY_MIN)


async def _agent(websocket: WebSocket) -> None:
    panel: Panel = websocket.app.state.panel
    await panel.endpoint.serve(websocket)


async def _replica(websocket: WebSocket) -> None:
    panel: Panel = websocket.app.state.panel
    await panel.replicas.serve(websocket)


async def _healthz() -> Response:
    return PlainTextResponse("ok")


async def _readyz(request: Request) -> Response:
    panel: Panel = request.app.state.panel
    body = {
        "ready": not panel.unready,
        "message": panel.unready,
        "archive": "ok" if panel.database.available else panel.database.problem,
        "agents": len(panel.hub),
    }
    return JSONResponse(body, 503 if panel.unready else 200)


async def _metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
