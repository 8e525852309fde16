"""Crash points for tests: the places where a crash would hurt, named, and inert unless the environment arms one.

`KUBERPA_FAILPOINT=<name>` with `KUBERPA_FAILPOINT_ONCE=<path>` ends the process with exit code 86, as kill -9 would,
the first time that point is reached; the file at the path is created first, so that the restarted process passes.
"""

import os
from enum import StrEnum
from pathlib import Path

EXIT_CODE = 86


class Failpoint(StrEnum):
    """Every crash point: before an effect, after it, after the status that reports it."""

    ASSIGN_BEFORE = "operator.assign.before"
    ASSIGN_AFTER = "operator.assign.after"
    POD_BEFORE = "operator.pod.before"
    POD_AFTER = "operator.pod.after"
    POD_AFTER_STATUS = "operator.pod.after-status"
    POD_DELETE_BEFORE = "operator.pod-delete.before"
    POD_DELETE_AFTER = "operator.pod-delete.after"
    FIRE_BEFORE = "operator.fire.before"
    FIRE_AFTER = "operator.fire.after"
    FIRE_AFTER_STATUS = "operator.fire.after-status"
    REPLACE_BEFORE = "operator.replace.before"
    REPLACE_AFTER = "operator.replace.after"
    ITEM_STATUS_BEFORE = "operator.item-status.before"
    ITEM_STATUS_AFTER = "operator.item-status.after"
    DELETE_BEFORE = "operator.delete.before"
    DELETE_AFTER = "operator.delete.after"
    START_BEFORE = "panel.start.before"
    START_AFTER = "panel.start.after"
    STOP_BEFORE = "panel.stop.before"
    STOP_AFTER = "panel.stop.after"
    RUNNING_BEFORE = "panel.running.before"
    RUNNING_AFTER = "panel.running.after"
    REPORT_BEFORE_ARCHIVE = "panel.report.before-archive"
    REPORT_AFTER_ARCHIVE = "panel.report.after-archive"
    REPORT_AFTER_STATUS = "panel.report.after-status"
    HAND_BACK_BEFORE = "panel.hand-back.before"
    HAND_BACK_AFTER = "panel.hand-back.after"
    CONNECT_BEFORE = "panel.connect.before"
    CONNECT_AFTER = "panel.connect.after"
    ARCHIVE_BEFORE = "panel.archive.before"
    ARCHIVE_AFTER = "panel.archive.after"


_ARMED = os.environ.get("KUBERPA_FAILPOINT")


def reach(point: Failpoint) -> None:
    """Crash here if this point is armed and has not crashed before."""
    if _ARMED is not None and point == _ARMED:
        _crash_once()


def _crash_once() -> None:
    once = Path(os.environ["KUBERPA_FAILPOINT_ONCE"])
    try:
        once.open("x").close()
    except FileExistsError:
        return
    os._exit(EXIT_CODE)
