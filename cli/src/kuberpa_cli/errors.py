class KuberpaError(Exception):
    """A failure that the user can act on; its message is printed as it is, without a traceback."""

    exit_code: int = 1
    """What the process ends with."""
