"""Why a connection of FreeRDP ended, from how far it got and its exit code, and when to try again."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """How far a connection got."""

    REACHING = "Reaching"
    NEGOTIATING = "Negotiating"
    AUTHENTICATING = "Authenticating"
    SETTING_UP = "SettingUp"
    ACTIVE = "Active"


STAGES: Final = {
    "CONNECTION_STATE_NEGO": Stage.NEGOTIATING,
    "CONNECTION_STATE_NLA": Stage.AUTHENTICATING,
    "CONNECTION_STATE_MCS_CONNECT": Stage.SETTING_UP,
    "CONNECTION_STATE_ACTIVE": Stage.ACTIVE,
}
"""By FreeRDP's own names for the states that begin one."""


class Ending(StrEnum):
    """Why a connection ended."""

    UNREACHABLE = "Unreachable"
    CERTIFICATE_INVALID = "CertificateInvalid"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    LOGGED_OFF = "LoggedOff"
    TAKEN_OVER = "TakenOver"
    REFUSED = "Refused"
    LOST = "Lost"
    CLIENT_FAILED = "ClientFailed"


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to wait before the next try: doubling from `first` to `longest`, and how many tries there are."""

    first: float
    longest: float
    tries: int | None = None
    """None: without end. Otherwise the holder waits for other credentials after so many in a row."""


PAUSES: Final = {
    Ending.UNREACHABLE: Pause(1, 60),
    Ending.CERTIFICATE_INVALID: Pause(30, 300),
    # Accounts are locked after a handful of wrong passwords, and FreeRDP may try one twice.
    Ending.CREDENTIALS_REFUSED: Pause(30, 300, tries=2),
    Ending.LOGGED_OFF: Pause(5, 60),
    # Somebody sits there: taking the session back at once would be a fight.
    Ending.TAKEN_OVER: Pause(60, 600),
    Ending.REFUSED: Pause(30, 300),
    Ending.LOST: Pause(1, 60),
    Ending.CLIENT_FAILED: Pause(5, 300),
}

_BY_CODE: Final = {
    2: (Ending.LOGGED_OFF, "the session was logged off"),
    3: (Ending.LOST, "the host ended the connection: it was idle for too long"),
    4: (Ending.LOST, "the host ended the connection: the logon took too long"),
    5: (Ending.TAKEN_OVER, "another connection took the session over"),
    7: (Ending.REFUSED, "the host refused the connection"),
    9: (Ending.REFUSED, "the account may not sign in remotely: it is no member of Remote Desktop Users"),
    10: (Ending.CREDENTIALS_REFUSED, "the host wants credentials to be entered anew"),
    12: (Ending.LOGGED_OFF, "the user logged off"),
    131: (Ending.LOST, "the connection broke"),
    132: (Ending.CREDENTIALS_REFUSED, "the host refused the user name or the password"),
    134: (Ending.CREDENTIALS_REFUSED, "the host refused the user name or the password"),
    135: (Ending.CREDENTIALS_REFUSED, "the account is locked out"),
    139: (Ending.UNREACHABLE, "the host's name could not be looked up"),
    140: (Ending.UNREACHABLE, "the host's name is unknown"),
    143: (Ending.CERTIFICATE_INVALID, "the host's certificate is not trusted"),
    144: (Ending.REFUSED, "the account lacks the right to sign in remotely"),
    146: (Ending.REFUSED, "the host does not offer the security that is asked for"),
    148: (Ending.CREDENTIALS_REFUSED, "the password has expired"),
    149: (Ending.CREDENTIALS_REFUSED, "the password must be changed"),
    150: (Ending.UNREACHABLE, "no domain controller can be reached"),
    151: (Ending.CREDENTIALS_REFUSED, "the account is disabled"),
    152: (Ending.CREDENTIALS_REFUSED, "the password has expired"),
    153: (Ending.REFUSED, "the client was revoked"),
    154: (Ending.CREDENTIALS_REFUSED, "the password is wrong"),
    155: (Ending.CREDENTIALS_REFUSED, "access is denied"),
    156: (Ending.CREDENTIALS_REFUSED, "the account is restricted"),
    157: (Ending.CREDENTIALS_REFUSED, "the account has expired"),
    158: (Ending.REFUSED, "the account may not sign in this way"),
    159: (Ending.CREDENTIALS_REFUSED, "the credentials are incomplete"),
}
"""FreeRDP 2.11's exit codes that say something by themselves."""
_STARTED_BADLY: Final = frozenset({128, 129, 136})


def conclude(code: int, stage: Stage) -> tuple[Ending, str]:
    """Why it ended, and in words."""
    if (known := _BY_CODE.get(code)) is not None:
        return known
    if code in _STARTED_BADLY or (code < 0 and stage is not Stage.AUTHENTICATING):
        return Ending.CLIENT_FAILED, f"FreeRDP ended with code {code}"
    match stage:
        case Stage.AUTHENTICATING:
            # A host may answer a wrong password by no more than hanging up.
            return Ending.CREDENTIALS_REFUSED, "the host hung up when it saw the credentials"
        case Stage.ACTIVE | Stage.SETTING_UP:
            return Ending.LOST, "the connection broke"
        case Stage.NEGOTIATING:
            return Ending.REFUSED, "the host hung up before it asked for credentials"
        case Stage.REACHING:
            return Ending.UNREACHABLE, "the host could not be reached"


def wait_seconds(ending: Ending, in_a_row: int) -> float | None:
    """How long to wait after so many equal endings in a row; None: until the credentials change."""
    pause = PAUSES[ending]
    if pause.tries is not None and in_a_row >= pause.tries:
        return None
    return float(min(pause.longest, pause.first * 2 ** min(in_a_row - 1, 20)))
