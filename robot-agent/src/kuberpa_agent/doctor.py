"""`kuberpa-agent doctor`: whether this machine can work as its robot, and what to mend where it cannot.

Each check is a function of the agent's folder that returns what it found; none changes anything, and a running agent is
not disturbed.
"""

import os
import platform
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kuberpa.enrolment import CHALLENGE_PATH
from kuberpa_agent.connection import ConnectError, tls_context
from kuberpa_agent.home import Home, HomeError, Membership, is_closed_to_others
from kuberpa_agent.platform import selected

_SECONDS: Final = 10.0
_MIN_DISK_BYTES: Final = 1024**3
_CLOCK_SECONDS: Final = 120
_CERTIFICATE_DAYS: Final = 14
_DAY: Final = 86_400


@dataclass(frozen=True)
class Finding:
    """What a check found. `remedy` says how to mend it; a finding that has one and is not `ok` fails the doctor."""

    check: str
    ok: bool
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        mark = "ok   " if self.ok else "WRONG"
        text = f"{mark} {self.check}: {self.message}"
        return text if self.ok or not self.remedy else f"{text}\n      → {self.remedy}"


def versions(_: Home) -> Finding:
    """What runs here."""
    text = f"kuberpa-agent {version('kuberpa-agent')}, Python {platform.python_version()}, {platform.platform()}"
    return Finding("versions", ok=True, message=text)


def enrolment(place: Home) -> Finding:
    """Whether this agent is somebody, and nobody else can be."""
    try:
        member = place.membership()
        key_is_private = is_closed_to_others(place.key_file)
    except HomeError as error:
        return Finding("enrolment", ok=False, message=str(error), remedy="ask for a code: kuberpa enroll ROBOT")
    except OSError as error:
        remedy = "run as the user who enrolled the agent, or enrol again"
        return Finding("enrolment", ok=False, message=f"{place.key_file}: {error.strerror}", remedy=remedy)
    if not key_is_private:
        remedy = "somebody may have copied it: kuberpa enroll ROBOT --revoke, then enrol again"
        return Finding("enrolment", ok=False, message=f"{place.key_file} can be read by others", remedy=remedy)
    return Finding("enrolment", ok=True, message=f"robot {member.namespace}/{member.robot} of {member.panel}")


def reachability(place: Home) -> Finding:
    """Whether the panel's port answers."""
    if (member := _member(place)) is None:
        return _skipped("reachability")
    parts = urlsplit(member.panel)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), _SECONDS):
            return Finding("reachability", ok=True, message=f"{parts.hostname}:{port} answers")
    except socket.gaierror as error:
        remedy = "mend the name in DNS or the hosts file, or enrol with the panel's present address"
        return Finding("reachability", ok=False, message=f"{parts.hostname}: {error.strerror}", remedy=remedy)
    except OSError as error:
        remedy = "allow this machine outbound TCP to it (firewall, proxy, VPN); the panel never connects to agents"
        return Finding("reachability", ok=False, message=f"{parts.hostname}:{port}: {error}", remedy=remedy)


def tls(place: Home) -> Finding:
    """Whether the panel's certificate is one that this machine trusts."""
    member = _member(place)
    if member is None:
        return _skipped("TLS")
    parts = urlsplit(member.panel)
    if parts.scheme != "https":
        return Finding("TLS", ok=True, message="not used: the panel's address is http://")
    try:
        context = tls_context(Path(member.ca_file) if member.ca_file else None)
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), _SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=parts.hostname) as secured,
        ):
            ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {}).get("notAfter")))
    except ssl.SSLCertVerificationError as error:
        remedy = "enrol with --ca FILE of the authority that signed it; a wrong clock makes certificates invalid too"
        return Finding("TLS", ok=False, message=error.verify_message, remedy=remedy)
    except (ConnectError, OSError, ValueError) as error:
        return Finding("TLS", ok=False, message=str(error), remedy="see reachability; a proxy may break TLS open")
    days = int((ends - time.time()) / _DAY)
    remedy = "renew the panel's certificate" if days < _CERTIFICATE_DAYS else ""
    return Finding("TLS", ok=not remedy, message=f"trusted; its certificate ends in {days} days", remedy=remedy)


def panel(place: Home) -> Finding:
    """Whether what answers is a panel that knows of enrolled agents, and how far the clocks are apart."""
    member = _member(place)
    if member is None:
        return _skipped("panel")
    try:
        context = tls_context(Path(member.ca_file) if member.ca_file else None)
        handlers = [urllib.request.HTTPSHandler(context=context)] if member.panel.startswith("https:") else []
        opener = urllib.request.build_opener(*handlers)
        with opener.open(member.panel + CHALLENGE_PATH, timeout=_SECONDS) as answer:
            said = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except urllib.error.HTTPError as error:
        error.close()
        remedy = "is it the address of kuberpa's panel, and is the panel as new as this agent?"
        return Finding("panel", ok=False, message=f"HTTP {error.code}", remedy=remedy)
    except (ConnectError, OSError, ValueError, TypeError) as error:
        return Finding("panel", ok=False, message=str(error), remedy="see reachability and TLS")
    off = time.time() - said
    if abs(off) > _CLOCK_SECONDS:
        remedy = "turn on time synchronisation: the agent works, but this machine's own programs see the wrong time"
        return Finding("panel", ok=False, message=f"answers; this clock is off by {off:.0f} s", remedy=remedy)
    return Finding("panel", ok=True, message=f"answers; the clocks are {abs(off):.0f} s apart")


def folder(place: Home) -> Finding:
    """Whether there is room, and the right to use it."""
    probe = place.state / ".doctor"
    try:
        place.state.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        remedy = "give the user that the agent runs as the right to write there, or set another folder with --home"
        return Finding("folder", ok=False, message=f"{place.state}: {error.strerror}", remedy=remedy)
    free = shutil.disk_usage(place.state).free
    text = f"{place.folder}, {free / 1024**3:.1f} GiB free"
    if free < _MIN_DISK_BYTES:
        return Finding("folder", ok=False, message=text, remedy="free some space: packages and output need 1 GiB")
    return Finding("folder", ok=True, message=text)


def session(_: Home) -> Finding:
    """Whether there is a desktop to work on. Without one, command-line work goes on all the same."""
    if sys.platform != "win32":
        display = os.environ.get("DISPLAY", "")
        return Finding("session", ok=True, message=f"display {display}" if display else "no display: no graphical work")
    else:  # noqa: RET505  type checkers follow the branches of one statement
        from kuberpa_agent import windows_sessions  # noqa: PLC0415  Windows alone has them

        own = windows_sessions.own_session()
        if own == 0:
            remedy = "log on, so that the service starts the agent there: session 0 has no desktop"
            return Finding("session", ok=False, message="runs in session 0", remedy=remedy)
        return Finding("session", ok=True, message=f"session {own}, desktop of {os.environ.get('USERNAME', '?')}")


def agent(place: Home) -> Finding:
    """Whether an agent works here now."""
    try:
        fd = selected().lock(place.state / "agent.lock")
    except BlockingIOError:
        return Finding("agent", ok=True, message="is running")
    except OSError as error:
        return Finding("agent", ok=False, message=str(error), remedy="see folder")
    os.close(fd)
    return Finding("agent", ok=True, message="is not running; start it with kuberpa-agent run, or as a service")


CHECKS: Final[tuple[Callable[[Home], Finding], ...]] = (
    versions,
    enrolment,
    reachability,
    tls,
    panel,
    folder,
    session,
    agent,
)


def examine(place: Home) -> tuple[Finding, ...]:
    """All findings, in the order in which to mend them."""
    return tuple(check(place) for check in CHECKS)


def _member(place: Home) -> Membership | None:
    try:
        return place.membership()
    except (HomeError, OSError):
        return None


def _skipped(check: str) -> Finding:
    return Finding(check, ok=True, message="not looked at before the agent is enrolled")
