"""Who may read a file on Windows: its access list, by pywin32."""

import sys
from pathlib import Path

from kuberpa_agent.home import HomeError

assert sys.platform == "win32"  # noqa: S101  tells type checkers, and anyone who imports it elsewhere

import ntsecuritycon  # noqa: E402  only there
import win32api  # noqa: E402  as above
import win32security  # noqa: E402  as above


def _trusted(user: str | None = None) -> list[object]:
    """This user, SYSTEM and Administrators, and one more who is named."""
    token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32security.TOKEN_QUERY)
    own = win32security.GetTokenInformation(token, win32security.TokenUser)[0]
    known = (win32security.WinLocalSystemSid, win32security.WinBuiltinAdministratorsSid)
    named = [win32security.LookupAccountName(None, user)[0]] if user else []
    return [own, *(win32security.CreateWellKnownSid(sid, None) for sid in known), *named]


def grant(folder: Path, user: str) -> None:
    """Let one more user in, and into all that is below: the one in whose session the agent works."""
    try:
        sid = win32security.LookupAccountName(None, user)[0]
    except win32security.error as error:
        raise HomeError(f"there is no user {user}: {error.strerror}") from None
    inherit = win32security.CONTAINER_INHERIT_ACE | win32security.OBJECT_INHERIT_ACE
    for path in (folder, *folder.rglob("*")):
        found = win32security.GetNamedSecurityInfo(
            str(path), win32security.SE_FILE_OBJECT, win32security.DACL_SECURITY_INFORMATION
        ).GetSecurityDescriptorDacl()
        found.AddAccessAllowedAceEx(
            win32security.ACL_REVISION, inherit if path.is_dir() else 0, ntsecuritycon.FILE_ALL_ACCESS, sid
        )
        _write(path, found)


def close_to_others(path: Path) -> None:
    """Full control for those who are trusted, nothing for anybody else, nothing inherited from above."""
    inherit = win32security.CONTAINER_INHERIT_ACE | win32security.OBJECT_INHERIT_ACE if path.is_dir() else 0
    entries = win32security.ACL()
    for sid in _trusted():
        entries.AddAccessAllowedAceEx(win32security.ACL_REVISION, inherit, ntsecuritycon.FILE_ALL_ACCESS, sid)
    _write(path, entries)


def _write(path: Path, entries: object) -> None:
    win32security.SetNamedSecurityInfo(
        str(path),
        win32security.SE_FILE_OBJECT,
        win32security.DACL_SECURITY_INFORMATION | win32security.PROTECTED_DACL_SECURITY_INFORMATION,
        None,
        None,
        entries,
        None,
    )


def is_closed_to_others(path: Path, user: str | None) -> bool:
    """Whether the access list names nobody but those who are trusted."""
    found = win32security.GetNamedSecurityInfo(
        str(path), win32security.SE_FILE_OBJECT, win32security.DACL_SECURITY_INFORMATION
    )
    entries = found.GetSecurityDescriptorDacl()
    if entries is None:  # everybody may do everything
        return False
    trusted = [str(sid) for sid in _trusted(user)]
    return all(str(entries.GetAce(index)[2]) in trusted for index in range(entries.GetAceCount()))
