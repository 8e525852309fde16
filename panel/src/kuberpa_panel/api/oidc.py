"""Signing in by OpenID Connect: authorization code with PKCE, state and nonce; the provider's keys check the ID token.

What the panel learns is a name and groups. Both get a prefix, so that nobody is taken for a user of the cluster, and
rights are bound to the prefixed names, as they are when the API server itself knows the provider.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from kuberpa.model import Model
from kuberpa_panel.api.problems import SignInRequiredProblem, UnavailableProblem
from kuberpa_panel.language import _
from kuberpa_panel.services.access import User
from kuberpa_panel.settings import OidcSettings

CALLBACK: Final = "/sign-in/oidc/callback"
ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a key pair: never `none`, never one made with the client's own secret."""
LEEWAY_SECONDS: Final = 60
KEYS_SECONDS: Final = 300.0
MOST_GROUPS: Final = 500
MOST_CHARS: Final = 256
TIMEOUT_SECONDS: Final = 10.0


class OidcRefusedProblem(SignInRequiredProblem):
    """The provider, or what it says, does not let this person in."""

    title = "Sign-in refused"


class Attempt(Model):
    """One way to the provider and back, kept in a cookie meanwhile."""

    state: str
    nonce: str
    verifier: str
    next: str
    began: float


@dataclass(slots=True)
class Oidc:
    """One provider. What it publishes is read when it is needed, and again after five minutes."""

    settings: OidcSettings
    _metadata: dict[str, Any] = field(default_factory=dict)
    _keys: KeySet | None = None
    _read_at: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def attempt(self, target: str) -> Attempt:
        """A new one."""
        return Attempt(
            state=generate_token(32),
            nonce=generate_token(32),
            verifier=generate_token(64),
            next=target,
            began=time.time(),
        )

    async def address(self, attempt: Attempt) -> str:
        """Where to send the browser. Raises UnavailableProblem."""
        await self._read()
        async with self._client() as client:
            url, _state = client.create_authorization_url(
                self._metadata["authorization_endpoint"],
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url)

    async def redeem(self, attempt: Attempt, code: str) -> User:
        """Who came back with this code. Raises OidcRefusedProblem, UnavailableProblem."""
        await self._read()
        try:
            async with self._client() as client:
                tokens = await client.fetch_token(
                    self._metadata["token_endpoint"], code=code, code_verifier=attempt.verifier
                )
        except AuthlibBaseError as error:
            raise OidcRefusedProblem(_("The provider refuses this sign-in: %(why)s", why=error.error)) from None
        except httpx2.HTTPError:
            raise UnavailableProblem(_("The provider does not answer. Try again."), retry_after=5) from None
        return user_of(await self._claims(str(tokens.get("id_token", "")), attempt.nonce), self.settings)

    async def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        try:
            claims = await self._decoded(token)
            registry = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self.settings.issuer},
                aud={"essential": True, "value": self.settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": nonce},
            )
            registry.validate(claims)
        except (JoseError, ValueError):
            raise OidcRefusedProblem(_("The provider's ID token is not valid for this panel. Sign in again.")) from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self.settings.client_id:
            raise OidcRefusedProblem(_("The provider's ID token is not valid for this panel. Sign in again."))
        return claims

    async def _decoded(self, token: str) -> dict[str, Any]:
        assert self._keys is not None  # noqa: S101  read before
        try:
            return jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):
            await self._read(again=True)  # the provider may have changed its keys
            return jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims

    async def _read(self, *, again: bool = False) -> None:
        """What the provider publishes. Raises UnavailableProblem."""
        async with self._lock:
            if self._keys is not None and not again and time.monotonic() - self._read_at < KEYS_SECONDS:
                return
            try:
                async with httpx2.AsyncClient(verify=self._trust(), timeout=TIMEOUT_SECONDS) as client:
                    metadata = await _json(
                        client, f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                    )
                    keys = KeySet.import_key_set(await _json(client, metadata["jwks_uri"]))  # type: ignore[arg-type]
            except (httpx2.HTTPError, JoseError, ValueError, KeyError):
                raise UnavailableProblem(_("The provider does not answer. Try again."), retry_after=5) from None
            if metadata.get("issuer") != self.settings.issuer:
                raise UnavailableProblem(_("The provider says that it is another one. Ask an administrator."))
            self._metadata, self._keys, self._read_at = metadata, keys, time.monotonic()

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            client_id=self.settings.client_id,
            client_secret=self.settings.client_secret(),
            scope=" ".join(self.settings.scopes),
            redirect_uri=f"{self.settings.panel_url}{CALLBACK}",
            code_challenge_method="S256",
            verify=self._trust(),
            timeout=TIMEOUT_SECONDS,
        )

    def _trust(self) -> ssl.SSLContext:
        file = self.settings.ca_file
        return ssl.create_default_context(cafile=str(file) if file else None)


async def _json(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def user_of(claims: Mapping[str, Any], settings: OidcSettings) -> User:
    """The user that verified claims are of. Raises OidcRefusedProblem."""
    claim = settings.username_claim
    name = claims.get(claim)
    if not isinstance(name, str) or not _is_plain(name):
        raise OidcRefusedProblem(_("The provider does not say who you are: claim %(claim)s.", claim=claim))
    if claim == "email" and claims.get("email_verified") is not True:
        raise OidcRefusedProblem(_("The provider has not verified your e-mail address."))
    given = claims.get(settings.groups_claim) or []
    groups = [given] if isinstance(given, str) else given
    if not isinstance(groups, list) or len(groups) > MOST_GROUPS:
        raise OidcRefusedProblem(
            _(
                "The provider names your groups in a way that cannot be read: claim %(claim)s.",
                claim=settings.groups_claim,
            )
        )
    if settings.required_group and settings.required_group not in groups:
        raise OidcRefusedProblem(_("Your account is not among those that may use this panel."))
    named = [f"{settings.prefix}{group}" for group in groups if isinstance(group, str) and _is_plain(group)]
    return User(name=f"{settings.prefix}{name}", groups=(*named, "system:authenticated"))


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= MOST_CHARS and name.isprintable() and name == name.strip()
