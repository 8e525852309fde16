"""Whether a robot's pod is kept from being evicted: while it works for more than a moment.

A PodDisruptionBudget of its own costs two writes, so short work gets none: it appears when something has been running
for PROTECT_AFTER, and goes when nothing has been running for UNPROTECT_AFTER, at once when nothing new may begin,
or with the pod.
"""

from datetime import datetime, timedelta
from typing import Final

from kuberpa import names
from kuberpa.robot import Goal
from kuberpa_operator.core.effects import Body, Effect, ProtectPod, UnprotectPod
from kuberpa_operator.core.pod import owner_reference
from kuberpa_operator.core.robot_snapshot import Snapshot

PROTECT_AFTER: Final = timedelta(seconds=5)
UNPROTECT_AFTER: Final = timedelta(seconds=30)


def protection(s: Snapshot) -> tuple[tuple[Effect, ...], bool, datetime | None]:
    """What to do, whether it is protected then, and when to look again."""
    meta, protected = s.robot.metadata, s.robot.status.protected
    name = names.budget_name(meta.name)
    if s.own_pod is None or s.own_pod.has_ended or s.external:
        return ((UnprotectPod(meta.namespace, name),) if protected else ()), False, None
    if not protected and s.running and s.working_since is not None:
        due = s.working_since + PROTECT_AFTER
        if s.now < due:
            return (), False, due
        return (ProtectPod(meta.namespace, _budget(s, name)),), True, None
    if protected and not s.running:
        takes_work = s.goal is Goal.RUN
        due = (s.quiet_since or s.now) + (UNPROTECT_AFTER if takes_work else timedelta(0))
        if s.now < due:
            return (), True, due
        return (UnprotectPod(meta.namespace, name),), False, None
    return (), protected, None


def _budget(s: Snapshot, name: str) -> Body:
    return {
        "metadata": {
            "name": name,
            "labels": {names.LABEL_ROBOT: s.robot.metadata.name},
            "ownerReferences": [owner_reference(s.robot)],
        },
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {names.LABEL_ROBOT: s.robot.metadata.name}}},
    }
