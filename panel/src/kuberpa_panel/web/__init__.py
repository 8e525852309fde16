"""The panel's pages."""

from typing import Final

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from kuberpa_panel import api
from kuberpa_panel.api.description import describe_refusals
from kuberpa_panel.api.errors import install
from kuberpa_panel.api.limits import BodyLimit
from kuberpa_panel.api.recorder import Recorder
from kuberpa_panel.language import LanguageOfRequest, catalogues
from kuberpa_panel.web import (
    access,
    activities,
    adding,
    agenda,
    audit,
    bulk_robots,
    calendars,
    debug,
    fleets,
    gsettings,
    home,
    items,
    logs,
    oidc,
    panels,
    queues,
    robots,
    run,
    schedules,
    sequences,
    signin,
    storage,
    system,
)
from kuberpa_panel.web.assets import Static
from kuberpa_panel.web.errors import CatchAll, render_problem
from kuberpa_panel.web.headers import SecurityHeaders

PAGES: Final = (
    signin,
    oidc,
    home,
    fleets,
    bulk_robots,
    robots,
    activities,
    run,
    debug,
    sequences,
    queues,
    items,
    logs,
    adding,
    schedules,
    agenda,
    calendars,
    gsettings,
    storage,
    audit,
    system,
    access,
)


def mount(app: FastAPI) -> None:
    """Add pages, REST API, static files, errors and headers to the panel.

    Needs `app.state.session_key` (32 bytes or more) at once and `app.state.services` once requests come.
    """
    app.include_router(api.queue_calls)
    for module in PAGES:
        app.include_router(module.router)
    app.include_router(api.enrolment_routes)  # before the actions of robots, one of which its path would be
    app.include_router(api.recording_routes)
    app.include_router(api.remote_routes)
    app.include_router(api.router)
    app.include_router(api.schedule_router)
    app.include_router(api.queues)
    app.include_router(api.fleet_routes)
    app.include_router(api.gsettings_routes)
    app.include_router(api.audit_routes)
    app.include_router(api.search_routes)
    app.include_router(api.system_routes)
    app.include_router(api.access_routes)
    app.include_router(api.log_routes)
    panels.mount(app)
    app.mount("/static", Static(), name="static")
    describe_refusals(app)
    catalogues.warm()
    answer = install(app, render_problem)
    # the last one is the outermost
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(BodyLimit)
    app.add_middleware(Recorder)
    app.add_middleware(CatchAll, answer=answer)
    app.add_middleware(LanguageOfRequest)
    app.add_middleware(SecurityHeaders)
