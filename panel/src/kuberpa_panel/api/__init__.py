"""The REST API and what it shares with the pages: queries, actions, identity, rights."""

from kuberpa_panel.api.audit import router as audit_routes
from kuberpa_panel.api.enrolment_routes import router as enrolment_routes
from kuberpa_panel.api.fleets import router as fleet_routes
from kuberpa_panel.api.grants import router as access_routes
from kuberpa_panel.api.gsettings import router as gsettings_routes
from kuberpa_panel.api.logs import router as log_routes
from kuberpa_panel.api.queues import direct as queue_calls
from kuberpa_panel.api.queues import router as queues
from kuberpa_panel.api.recordings import router as recording_routes
from kuberpa_panel.api.remote import router as remote_routes
from kuberpa_panel.api.routes import router
from kuberpa_panel.api.schedule_routes import router as schedule_router
from kuberpa_panel.api.search import router as search_routes
from kuberpa_panel.api.system import router as system_routes

__all__ = [
    "access_routes",
    "audit_routes",
    "enrolment_routes",
    "fleet_routes",
    "gsettings_routes",
    "log_routes",
    "queue_calls",
    "queues",
    "recording_routes",
    "remote_routes",
    "router",
    "schedule_router",
    "search_routes",
    "system_routes",
]
