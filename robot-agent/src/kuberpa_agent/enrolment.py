"""Enrolling, and proving at each connection that this agent is the one that enrolled. See kuberpa.enrolment."""

import ipaddress
import json
import platform
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kuberpa.enrolment import (
    CHALLENGE_PATH,
    ENROL_PATH,
    ChallengeAnswer,
    Enrolled,
    EnrolRequest,
    credential,
    encoded,
    signed_text,
)
from kuberpa_agent.backoff import Cause, cause_of_status
from kuberpa_agent.connection import ConnectError, tls_context
from kuberpa_agent.errors import AgentError
from kuberpa_agent.home import Home, HomeError, Membership, write_private
from kuberpa_agent.settings import websocket_url

_SECONDS: Final = 15.0
_MAX_ANSWER_BYTES: Final = 64 * 1024


class EnrolError(AgentError):
    """The agent could not enrol; the message says why and what to do."""


def prove(home: Home) -> str:
    """The bearer token of the next connection; asks the panel what to sign. Raises ConnectError."""
    try:
        mine = home.membership()
        key = _load(home.key_file)
    except HomeError as error:
        raise ConnectError(Cause.FORBIDDEN, str(error)) from None
    except (OSError, ValueError, TypeError) as error:
        raise ConnectError(Cause.FORBIDDEN, f"key file {home.key_file}: {error}") from None
    answer = _ask(mine.panel, CHALLENGE_PATH, ca_file=Path(mine.ca_file) if mine.ca_file else None)
    challenge = ChallengeAnswer.of(answer).challenge
    return credential(mine.enrolment, challenge, key.sign(signed_text(mine.enrolment, challenge)))


def enrol(home: Home, panel: str, code: str, ca_file: Path | None, *, plaintext: bool) -> Membership:
    """Trade the code for a membership, and keep it. Raises EnrolError."""
    base = check_panel(panel, plaintext=plaintext)
    home.prepare()
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    probe = home.folder / ".probe"
    try:  # a code must not be used up for an answer that cannot be kept
        write_private(probe, pem)
        probe.unlink()
    except OSError as error:
        raise EnrolError(f"{home.folder} cannot be written: {error.strerror}") from None
    request = EnrolRequest(
        code=code,
        public_key=encoded(public),
        hostname=socket.gethostname()[:253],
        version=version("kuberpa-agent")[:64],
    )
    try:
        found = Enrolled.of(_ask(base, ENROL_PATH, request.to_json(), ca_file=ca_file))
    except ConnectError as error:
        raise EnrolError(str(error)) from None
    kept = str(ca_file.absolute()) if ca_file else ""
    member = Membership(panel=base, enrolment=found.id, namespace=found.namespace, robot=found.robot, ca_file=kept)
    home.keep(member, pem)
    return member


def check_panel(panel: str, *, plaintext: bool) -> str:
    """The base URL of the panel. Raises EnrolError when it is none, or would send the code in the clear."""
    base = panel.rstrip("/")
    try:
        websocket_url(base)
    except ValueError as error:
        raise EnrolError(f"--panel: {error}") from None
    parts = urlsplit(base)
    if parts.scheme == "http" and not plaintext and not _is_loopback(parts.hostname or ""):
        raise EnrolError(
            f"--panel: {base} is not encrypted: use https://, or --plaintext where the network is one that you trust"
        )
    return base


def facts() -> str:
    """What this machine is, for people."""
    return f"{socket.gethostname()}, {platform.system()} {platform.release()}, kuberpa-agent {version('kuberpa-agent')}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _load(path: Path) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("is no Ed25519 key")
    return key


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """They would carry a code to another place."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _ask(base: str, path: str, body: Mapping[str, Any] | None = None, *, ca_file: Path | None) -> Any:
    """One request to the panel. Raises ConnectError with the panel's own words."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if base.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=tls_context(ca_file)))
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})  # noqa: S310  http(s)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as answer:
            return json.loads(answer.read(_MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            said = _words(error.read(_MAX_ANSWER_BYTES))
        if error.code == HTTPStatus.NOT_FOUND:
            said = said or "there is no kuberpa panel of this version at that address"
        raise ConnectError(cause_of_status(error.code), f"the panel answers {error.code}: {said}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise ConnectError(Cause.UNREACHABLE, f"{base} cannot be reached: {why}") from None


def _words(body: bytes) -> str:
    try:
        document = json.loads(body)
        errors = "; ".join(f"{e['field']}: {e['message']}" for e in document.get("errors", ()))
        return str(document["detail"]) + (f" ({errors})" if errors else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return body.decode("utf-8", "replace").strip()[:300]


if __name__ == "__main__":  # kuberpa_agent.proof calls it
    try:
        said = {"credential": prove(Home(Path(sys.argv[1])))}
    except ConnectError as failure:
        said = {"cause": failure.cause.value, "message": str(failure)}
    sys.stdout.write(json.dumps(said))
