"""What the numbers of Windows' session API mean, apart from the calls, which only Windows has."""

from typing import Final

from kuberpa.session import SessionState

SERVICES_SESSION: Final = 0
_ACTIVE, _CONNECTED, _DISCONNECTED = 0, 1, 4
_LOCKED: Final = 0
"""WTS_SESSIONSTATE_LOCK; Windows 7 and Server 2008 R2, which had it the other way round, are not supported."""


def state_of(session: int, connection: int, flags: int) -> SessionState:
    """The state of a session by its number, WTS_CONNECTSTATE_CLASS and WTSINFOEX's SessionFlags."""
    if session == SERVICES_SESSION:
        return SessionState.NONE
    if connection == _DISCONNECTED:
        return SessionState.DISCONNECTED
    if connection not in {_ACTIVE, _CONNECTED}:
        return SessionState.LOGGED_OFF
    return SessionState.LOCKED if flags == _LOCKED else SessionState.ACTIVE
