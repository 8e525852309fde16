"""What the numbers of Windows' session API mean, apart from the calls, which only Windows has."""

from typing import Final

ACTIVE, DISCONNECTED, LOCKED, LOGGED_OFF, NONE = "Active", "Disconnected", "Locked", "LoggedOff", "None"
"""As kuberpa.session.SessionState has them, which is not on hosts."""
SERVICES_SESSION: Final = 0
_ACTIVE, _CONNECTED, _DISCONNECTED = 0, 1, 4
_LOCKED: Final = 0
"""WTS_SESSIONSTATE_LOCK; Windows 7 and Server 2008 R2, which had it the other way round, are not supported."""


def state_of(session: int, connection: int, flags: int) -> str:
    """The state of a session by its number, WTS_CONNECTSTATE_CLASS and WTSINFOEX's SessionFlags."""
    if session == SERVICES_SESSION:
        return NONE
    if connection == _DISCONNECTED:
        return DISCONNECTED
    if connection not in {_ACTIVE, _CONNECTED}:
        return LOGGED_OFF
    return LOCKED if flags == _LOCKED else ACTIVE


def is_same_user(wanted: str, user: str, domain: str) -> bool:
    r"""Whether an account as people write it (robot, CORP\robot, robot@corp.example) is this one."""
    name, _, realm = wanted.partition("@")
    ahead, _, behind = name.rpartition("\\")
    if behind.casefold() != user.casefold() or not user:
        return False
    named = (ahead or realm.partition(".")[0]).casefold()
    return named in {"", ".", domain.casefold()}
