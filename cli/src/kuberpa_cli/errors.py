class KuberpaError(Exception):
    """A failure that the user can act on; its message is printed as it is, without a traceback."""
