"""What the browser side works with; `web.mount` puts it into the app's state."""

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from kuberpa_panel.api.oidc import Oidc
from kuberpa_panel.api.sessions import Sessions
from kuberpa_panel.api.throttle import Throttle
from kuberpa_panel.services import Services
from kuberpa_panel.settings import OidcSettings


@dataclass(frozen=True, slots=True)
class Context:
    """One panel replica, as its pages see it."""

    services: Services
    sessions: Sessions
    throttle: Throttle = field(default_factory=Throttle)
    oidc: Oidc | None = None
    """The provider by which people sign in, if there is one."""


def context_of(connection: HTTPConnection) -> Context:
    """The context of the app that serves this connection, made at its first request."""
    state = connection.app.state
    if not hasattr(state, "browser"):
        services: Services = state.services
        lifetimes = lambda: services.gsettings.settings().panel.sessions  # noqa: E731  read at each use
        provider: OidcSettings | None = getattr(state, "oidc", None)
        sessions = Sessions(services.database, state.session_key, lifetimes)
        state.browser = Context(services, sessions, oidc=Oidc(provider) if provider else None)
    context: Context = state.browser
    return context
