import pytest
from fastapi.routing import APIRoute
from tests.unit.panel.test_web_routes import ROUTES

from kuberpa.audit import AuditOutcome
from kuberpa_panel.api.direct import DirectRoute
from kuberpa_panel.api.recorder import KINDS, deed_of, outcome_of
from kuberpa_panel.api.viewer import SAFE_METHODS
from kuberpa_panel.services.audit import Trail

PLACE = {"namespace": "office", "name": "clerk"}


@pytest.mark.parametrize(
    ("method", "path", "params", "verb", "kind"),
    [
        ("POST", "/robots/{namespace}/{name}/{action}", PLACE | {"action": "stop"}, "stop", "Robot"),
        ("POST", "/api/v1/activities/{namespace}/{name}/{action}", PLACE | {"action": "kill"}, "kill", "ActivityItem"),
        ("PATCH", "/api/v1/robots/{namespace}/{name}/storage", PLACE, "update storage", "Robot"),
        ("DELETE", "/api/v1/queues/{namespace}/{name}/items/{item}", PLACE | {"item": 7}, "delete items", "WorkQueue"),
        ("POST", "/api/v1/activities", {}, "create", "ActivityItem"),
        ("POST", "/sign-in", {}, "sign in", "Session"),
        ("GET", "/robots/{namespace}/{name}", PLACE, "get", "Robot"),
    ],
)
def test_an_entry_is_told_from_the_route(
    method: str, path: str, params: dict[str, object], verb: str, kind: str
) -> None:
    deed = deed_of(method, path, params, Trail("10.0.0.7", "r1", "api", "anna"), AuditOutcome.ALLOWED)
    assert (deed.verb, deed.kind, deed.username) == (verb, kind, "anna")
    assert (deed.namespace, deed.name) == (str(params.get("namespace", "")), str(params.get("name", "")))
    assert deed.new == ({"item": "7"} if "item" in params else None)


def test_only_a_refusal_has_a_reason() -> None:
    trail = Trail(username="anna", reason="You need the right")
    path = "/robots/{namespace}/{name}/{action}"
    assert deed_of("POST", path, PLACE, trail, AuditOutcome.DENIED).reason == "You need the right"
    assert not deed_of("POST", path, PLACE, trail, AuditOutcome.ALLOWED).reason


@pytest.mark.parametrize(
    ("method", "status", "outcome"),
    [
        ("GET", 200, None),
        ("GET", 403, AuditOutcome.DENIED),
        ("GET", 401, None),
        ("POST", 401, AuditOutcome.DENIED),
        ("POST", 303, AuditOutcome.ALLOWED),
        ("POST", 409, AuditOutcome.FAILED),
        ("POST", 422, None),
        ("PATCH", 503, AuditOutcome.FAILED),
    ],
)
def test_the_status_says_what_became_of_it(method: str, status: int, outcome: AuditOutcome | None) -> None:
    assert outcome_of(method, status) is outcome


def test_every_route_that_changes_something_is_about_a_kind() -> None:
    changing = [
        route
        for route in ROUTES
        if isinstance(route, APIRoute)
        and not isinstance(route, DirectRoute)
        and (route.methods or set()) - SAFE_METHODS
        and not route.path.startswith("/agent")
    ]
    assert len(changing) > 20
    sections = {route.path.removeprefix("/api/v1").split("/")[1] for route in changing}
    assert sections <= set(KINDS), "kuberpa_panel.api.recorder.KINDS"
