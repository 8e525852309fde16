"""Our own WinRM peer: a listener that speaks [MS-WSMV]'s remote shell, with real authentication and a real cmd.exe.

It is constrained by what it is not made of: recorded exchanges of Windows (`recordings`), three clients that were
written by others, Debian's KDC, pyspnego's acceptor. `docs/windows.md` says what that proves.
"""
