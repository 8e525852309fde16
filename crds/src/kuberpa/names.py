"""The names that every part of kuberpa shares: API group, labels, annotations, derived object names."""

import hashlib
from datetime import UTC, datetime
from typing import Final

GROUP: Final = "kuberpa.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
AUDIENCE: Final = "kuberpa"
"""Audience of the projected ServiceAccount tokens with which agents and replicas identify themselves."""

ROBOT_NAME_MAX: Final = 52
"""Characters; leaves room for the prefix and a hash inside the 63 of a DNS label (as CronJob does)."""

LABEL_ROBOT: Final = f"{GROUP}/robot"
"""On pods: the Robot's name. On ActivityItems made by a Schedule nothing: the robot may not be known yet."""
LABEL_HOST: Final = f"{GROUP}/host"
"""On the pods of robots on hosts: the RobotHost's name."""
LABEL_SCHEDULE: Final = f"{GROUP}/schedule"
LABEL_QUEUE: Final = f"{GROUP}/queue"
"""On the ActivityItems of a WorkQueue's trigger: the queue's name."""
LABEL_PROGRAM: Final = f"{GROUP}/program"
"""On the ActivityItems of a Robot's program: the Robot's name."""
LABEL_FLEET: Final = f"{GROUP}/fleet"
"""On the Robots that a RobotFleet made: its name."""
LABEL_ROLE_BINDING: Final = f"{GROUP}/robot-role-binding"
"""On Roles and RoleBindings that the operator makes of a RobotRoleBinding: its name."""
LABEL_COMPONENT: Final = f"{GROUP}/component"
"""On Leases and workloads of kuberpa itself: operator or panel."""

FINALIZER_ON_HOST: Final = f"{GROUP}/on-host"
"""On Robots that work on a host: what they have there is removed before they go."""
FINALIZER_IN_USE: Final = f"{GROUP}/in-use"
"""On RobotHosts on which a Robot works: what it was told with stays until the Robot is done there."""

ANNOTATION_CREATED_BY: Final = f"{GROUP}/created-by"
"""User who created the object, stamped by the admission policy; what a manifest says here is overwritten."""
ANNOTATION_CLAIMED_CREATED_BY: Final = f"{GROUP}/claimed-created-by"
"""What a manifest said in created-by when that was somebody else; the API server warns of it."""
ANNOTATION_CHANGED_BY: Final = f"{GROUP}/changed-by"
"""User who last changed spec, stamped by the admission policy."""
ANNOTATION_WRITTEN_BY: Final = f"{GROUP}/written-by"
"""GENERATION USER of whoever wrote the object last, stamped by the admission policy; kuberpa's own writes have none."""
ANNOTATION_ON_BEHALF_OF: Final = f"{GROUP}/on-behalf-of"
"""On a Schedule's ActivityItems: the user who created or last changed the Schedule."""
ANNOTATION_SCHEDULED_AT: Final = f"{GROUP}/scheduled-at"
"""Nominal instant of a firing, RFC 3339 in UTC."""
ANNOTATION_TRIGGER_NUMBER: Final = f"{GROUP}/trigger-number"
"""On a WorkQueue trigger's ActivityItems: which of them it is, from 1."""
ANNOTATION_CAUSE: Final = f"{GROUP}/cause"
"""Why a firing came about, when it was not by the plan: Manual or Backfill."""
ANNOTATION_TEMPLATE_HASH: Final = f"{GROUP}/template-hash"
"""On robot pods: hash of what the pod was rendered from; another hash means that the pod must be replaced."""
ANNOTATION_RESTARTED_AT: Final = f"{GROUP}/restarted-at"
"""On Robots: another value than that of the robot's pod restarts it, as kubectl's rollout restart does Deployments."""
ANNOTATION_RESTART_MODE: Final = f"{GROUP}/restart-mode"
"""On Robots: Safe or Force for that restart; without it as `spec.stop.mode` says."""
ANNOTATION_PROGRAM_NUMBER: Final = f"{GROUP}/program-number"
"""On the ActivityItems of a Robot's program: which start it is, counted from 1."""
ANNOTATION_PROGRAM_FINGERPRINT: Final = f"{GROUP}/program-fingerprint"
"""On the ActivityItems of a Robot's program: of which spec.program it is a start."""
ANNOTATION_RECOVERY: Final = f"{GROUP}/recovery"
"""On the ActivityItems by which the operator brings a Robot's session back: which step it is, LogOff or RestartHost."""
ANNOTATION_FLEET_REVISION: Final = f"{GROUP}/fleet-revision"
"""On a fleet's members: hash of the template that they are as, without its wishes."""
ANNOTATION_FLEET_WISHES: Final = f"{GROUP}/fleet-wishes"
"""On a fleet's members: hash of the template's desiredState, stop and control that they were given last."""
ANNOTATION_LEAVING: Final = f"{GROUP}/leaving"
"""On a fleet's members: since when they end what they do, to be deleted then."""
ANNOTATION_ADDRESS: Final = f"{GROUP}/address"
"""URL at which other panel replicas reach this one, on its Lease."""
ANNOTATION_ARCHIVE: Final = f"{GROUP}/archive"
"""On a panel replica's Lease: `ok` or `unavailable`."""


def pod_name(robot: str) -> str:
    """The one pod a Robot may have: a fixed name makes a second one impossible."""
    return f"robot-{robot}"


def budget_name(robot: str) -> str:
    """PodDisruptionBudget that keeps the Robot's pod from being evicted while it works."""
    return f"robot-{robot}-at-work"


def service_account_name(robot: str) -> str:
    """ServiceAccount under which the Robot's pod runs."""
    return f"robot-{robot}"


def native_name(binding: str) -> str:
    """Role and RoleBinding that a RobotRoleBinding is made into."""
    return f"kuberpa:{binding}"


def firing_name(schedule: str, uid: str, cause: str, at: datetime) -> str:
    """Name of the child that a firing creates: `<schedule>-<10 hex digits>`.

    The hash covers (Schedule UID, cause, nominal instant), so creating it again answers 409 instead of
    running twice (the job name as a lock: Kubernetes' CronJob controller v2).
    """
    digest = hashlib.sha256(f"{uid}/{cause}/{timestamp(at)}".encode()).hexdigest()[:10]
    return f"{schedule[:ROBOT_NAME_MAX].rstrip('-.')}-{digest}"


def numbered_name(parent: str, uid: str, cause: str, number: int) -> str:
    """Name of a parent's n-th child, for children that are counted: `<parent>-<10 hex digits>`, as `firing_name`."""
    digest = hashlib.sha256(f"{uid}/{cause}/{number}".encode()).hexdigest()[:10]
    return f"{parent[:ROBOT_NAME_MAX].rstrip('-.')}-{digest}"


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds only when there are any. Raises ValueError for a naive time."""
    if at.tzinfo is None:
        raise ValueError("a naive time has no instant: give it a zone")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
