"""kuberpa's robot agent. For robot code: `from kuberpa_agent import activity` and `kuberpa_agent.sdk`.

This module, `sdk`, `worker`, `platform` and `builtin` use the standard library alone: they also run in the
robots' own virtual environments, which hold nothing of the agent's dependencies.
"""

from kuberpa_agent.sdk import activity

__all__ = ["activity"]
