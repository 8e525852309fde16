"""What differs between operating systems. `selected()` is the only place that looks at which one this is."""

import sys
from functools import cache

from kuberpa_agent.platform.base import Machine, Platform, Tree, TreeEvent

__all__ = ["Machine", "Platform", "Tree", "TreeEvent", "selected"]


@cache
def selected() -> Platform:
    """The platform of this process."""
    if sys.platform == "win32":
        from kuberpa_agent.platform.windows import WindowsPlatform  # noqa: PLC0415  importable only there

        return WindowsPlatform()
    else:  # noqa: RET505  type checkers follow the branches of one statement
        from kuberpa_agent.platform.linux import LinuxPlatform  # noqa: PLC0415  importable only there

        return LinuxPlatform()
