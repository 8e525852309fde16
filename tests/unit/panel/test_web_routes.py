import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from kuberpa import wire
from kuberpa.enrolment import CHALLENGE_PATH, ENROL_PATH
from kuberpa_panel.api.guards import Guard, Public, SignedIn
from kuberpa_panel.api.oidc import CALLBACK
from kuberpa_panel.app import create_app
from kuberpa_panel.settings import Settings

UNGUARDED = {
    "/static": "what every visitor loads",
    "/api/v1/openapi.json": "how the API is called",
    "/healthz": "a probe, says nothing but that the process lives",
    "/readyz": "a probe, says what is missing",
    "/metrics": "counters without names of users or objects",
    "/replica/v1/stream": "other replicas, who prove by a signed ticket what they may",
    "/api/v1/robots/{namespace}/{name}/terminal": "remote.sockets asks for create robots/terminal before it accepts",
    "/api/v1/robots/{namespace}/{name}/screen": "remote.sockets asks for get robots/session before it accepts",
    "/api/v1/robots/{namespace}/{name}/console": "remote.sockets asks for create robots/console before it accepts",
    "/api/v1/activities/{namespace}/{name}/debugger": "remote.sockets asks for create activityitems/debug before that",
    "/api/v1/thumbnails": "a viewer's socket: get robots/session is asked for robot by robot",
    wire.PATH: "agents, who prove their identity there by a token of their pod",
}


def make_app() -> FastAPI:
    return create_app(Settings(database_url_file=Path("unused")))


def every_route(routes: list[BaseRoute]) -> Iterator[BaseRoute]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from every_route(inner.routes)
        else:
            yield route


def guards_of(dependant: Dependant) -> list[Guard]:
    own = [dependant.call] if isinstance(dependant.call, Guard) else []
    return own + [guard for part in dependant.dependencies for guard in guards_of(part)]


ROUTES = list(every_route(make_app().router.routes))


def test_the_routes_are_found() -> None:
    paths = {getattr(route, "path", "") for route in ROUTES}
    assert {"/", "/robots", "/activities/{namespace}/{name}/stream", "/api/v1/activities", "/run", "/sign-in"} <= paths


@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{sorted(getattr(route, 'methods', None) or [])}{route.path}"
)
def test_every_route_has_a_check_of_rights(route: BaseRoute) -> None:
    if isinstance(route, APIRoute) and route.path not in UNGUARDED:
        guards = guards_of(route.dependant)
        assert guards, f"{route.path} has no guard: see kuberpa_panel.api.guards"
        assert all(guard.why for guard in guards if isinstance(guard, Public | SignedIn))
        return
    assert isinstance(route, Mount | Route | WebSocketRoute)
    assert route.path in UNGUARDED, f"{route.path} is neither guarded nor known to be public"


def test_only_signing_in_and_enrolling_are_public() -> None:
    public = {
        route.path
        for route in ROUTES
        if isinstance(route, APIRoute) and any(isinstance(guard, Public) for guard in guards_of(route.dependant))
    }
    assert public == {"/sign-in", "/sign-in/oidc", CALLBACK, ENROL_PATH, CHALLENGE_PATH}


def test_the_description_of_the_api_names_every_answer() -> None:
    document: dict[str, Any] = make_app().openapi()
    assert "/api/v1/activities/{namespace}/{name}/log" in document["paths"]
    assert all(path.startswith("/api/v1/") for path in document["paths"])
    operations = [each for path in document["paths"].values() for each in path.values()]
    for status in ("401", "403", "404", "409", "413", "422", "429", "503"):
        assert all(list(each["responses"][status]["content"]) == ["application/problem+json"] for each in operations)
    assert "HTTPBearer" in json.dumps(document["components"]["securitySchemes"])


def test_the_description_says_what_robots_send() -> None:
    paths: dict[str, Any] = make_app().openapi()["paths"]
    queue = "/api/v1/queues/{namespace}/{name}"
    sent = paths[f"{queue}/items/{{item}}/complete"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(sent["properties"]) == {"token", "output"}
    assert sent["required"] == ["token"]
    assert "$ref" not in json.dumps(paths[f"{queue}/requeue"]["post"]["requestBody"])
