"""What is the matter with a host, told apart by what a person would do about it."""

from typing import Any, Final

import requests
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from kuberpa.host import HostReason

ACCESS_DENIED: Final = 5
SHELL_NOT_FOUND: Final = frozenset({2150858843, 2150859194, 995})
"""The shell or the command is gone: expired, ended by an administrator, or of before a restart."""
QUOTAS: Final = frozenset(
    {
        2150859173,  # shells of this user
        2150859174,  # operations of this user
        2150859175,  # of the user
        2150859176,  # of the system
        2150859179,  # users with shells
        *range(2150859236, 2150859243),  # the plug-in's
    }
)
FORBIDDEN: Final = 403
UNAUTHORIZED: Final = 401


class HostError(Exception):
    """A call did not do what it was to do; whether anything was done is unknown."""

    def __init__(self, reason: HostReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ShellGoneError(HostError):
    """The shell ended under the call: another one may do."""

    def __init__(self, message: str) -> None:
        super().__init__(HostReason.PROTOCOL_ERROR, message)


def understood(error: Exception) -> HostError:  # noqa: C901, PLR0911  one return a cause
    """The cause of whatever a call raised."""
    match error:
        case HostError():
            return error
        case InvalidCredentialsError():
            return HostError(HostReason.CREDENTIALS_REFUSED, "the host does not accept the user name and password")
        case WSManFaultError():
            return _fault(error)
        case WinRMTransportError(code=code):
            return _status(int(code))
        case WinRMOperationTimeoutError():
            return HostError(HostReason.TIMED_OUT, "the host did not finish the operation in time")
        case requests.exceptions.SSLError():
            return HostError(HostReason.CERTIFICATE_INVALID, f"the host's certificate is not valid: {_words(error)}")
        case requests.exceptions.ConnectTimeout():
            return HostError(HostReason.UNREACHABLE, "the host does not answer at its address")
        case requests.exceptions.ReadTimeout():
            return HostError(HostReason.TIMED_OUT, "the host took the request and did not answer in time")
        case requests.exceptions.ConnectionError():
            return HostError(HostReason.UNREACHABLE, f"no connection to the host: {_words(error)}")
        case WinRMError():
            return HostError(HostReason.PROTOCOL_ERROR, f"WinRM: {error}"[:500])
    return HostError(
        HostReason.PROTOCOL_ERROR, f"the host's answer is not WinRM: {type(error).__name__}: {error}"[:500]
    )


def _fault(error: WSManFaultError) -> HostError:
    code = error.wsman_fault_code or error.wmierror_code or 0
    message = f"{error.reason} (fault {code})"[:500]
    if code in QUOTAS or "QuotaLimit" in (error.fault_subcode or ""):
        return HostError(HostReason.QUOTA_EXCEEDED, message)
    if code in SHELL_NOT_FOUND or "InvalidSelectors" in (error.fault_subcode or ""):
        return ShellGoneError(message)
    if code == ACCESS_DENIED or "AccessDenied" in (error.fault_subcode or ""):
        return HostError(HostReason.ACCESS_DENIED, message)
    return HostError(HostReason.PROTOCOL_ERROR, message)


def _status(code: int) -> HostError:
    if code == UNAUTHORIZED:
        return HostError(HostReason.CREDENTIALS_REFUSED, "the host does not accept the user name and password")
    if code == FORBIDDEN:
        return HostError(HostReason.ACCESS_DENIED, "the host refuses this user: is it a Remote Management User?")
    return HostError(HostReason.PROTOCOL_ERROR, f"the host answered with HTTP status {code}")


def _words(error: Any) -> str:
    """The innermost message: requests and urllib3 wrap the same trouble several times."""
    reason = error.args[0] if error.args else error
    inner = getattr(reason, "reason", reason)
    return str(inner)[:300]
