"""How long to wait before the next connection, by why the last one ended."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kuberpa import wire


class Cause(StrEnum):
    """Why there is no connection."""

    RENEWAL = "the token was renewed"
    TOKEN_EXPIRED = "the token expired"  # noqa: S105  a reason, not a password
    GOING_AWAY = "the panel replica is going away"
    CLOSED = "the connection ended"
    UNREACHABLE = "the panel cannot be reached"
    UNAUTHORIZED = "the panel does not accept the token"
    RATE_LIMITED = "the panel limits this agent's rate"
    PROTOCOL = "the panel and this agent do not understand each other"
    FORBIDDEN = "the panel refuses this agent"
    SUPERSEDED = "another agent with this identity took over"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds before the first retry, and the most there may be."""

    first: float
    most: float


BOUNDS: Final = {
    Cause.RENEWAL: Bounds(0.0, 0.0),
    Cause.TOKEN_EXPIRED: Bounds(0.2, 10.0),
    Cause.GOING_AWAY: Bounds(0.2, 10.0),
    Cause.CLOSED: Bounds(0.5, 10.0),
    # A panel that comes back starts the clocks of its agents: all must be back long before lostAfterSeconds (60).
    Cause.UNREACHABLE: Bounds(0.5, 10.0),
    Cause.UNAUTHORIZED: Bounds(2.0, 30.0),
    Cause.RATE_LIMITED: Bounds(10.0, 60.0),
    Cause.PROTOCOL: Bounds(10.0, 60.0),
    # Two agents with one identity would otherwise throw each other out without end.
    Cause.FORBIDDEN: Bounds(30.0, 120.0),
    Cause.SUPERSEDED: Bounds(60.0, 300.0),
}

_CLOSE_CODES: Final = {
    1001: Cause.GOING_AWAY,
    1008: Cause.PROTOCOL,
    1009: Cause.PROTOCOL,
    1012: Cause.GOING_AWAY,
    1013: Cause.GOING_AWAY,
    wire.CLOSE_TOKEN_EXPIRED: Cause.TOKEN_EXPIRED,
    wire.CLOSE_FORBIDDEN: Cause.FORBIDDEN,
    wire.CLOSE_SUPERSEDED: Cause.SUPERSEDED,
    wire.CLOSE_RATE_LIMITED: Cause.RATE_LIMITED,
}
_HTTP_STATUSES: Final = {
    401: Cause.UNAUTHORIZED,
    403: Cause.FORBIDDEN,
    409: Cause.SUPERSEDED,
    426: Cause.PROTOCOL,
    429: Cause.RATE_LIMITED,
}
LASTING: Final = frozenset({Cause.SUPERSEDED, Cause.FORBIDDEN, Cause.PROTOCOL, Cause.RATE_LIMITED})
"""Causes that a connection which worked for a while does not disprove: their waits go on growing."""


def cause_of_close(code: int | None) -> Cause:
    """Why a connection ended, by its WebSocket close code (None: the transport broke)."""
    return _CLOSE_CODES.get(code or 0, Cause.CLOSED)


def cause_of_status(status: int) -> Cause:
    """Why a handshake was refused, by its HTTP status."""
    return _HTTP_STATUSES.get(status, Cause.UNREACHABLE)


def delay(cause: Cause, failures: int, rng: random.Random) -> float:
    """Seconds to wait after so many failures in a row (counted from 1): doubling, half of it at random.

    "Equal jitter": a thousand agents that lost the same panel at the same moment do not return at the same moment.
    """
    bounds = BOUNDS[cause]
    longest: float = min(bounds.most, bounds.first * 2.0 ** min(max(failures - 1, 0), 16))
    return longest * (0.5 + rng.random() / 2)
