"""job.json, which makes a start unrepeatable; what earlier agents left; exit.json of runs without a shim."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from kuberpa import wire
from kuberpa.activity import MAX_RESULT_BYTES
from kuberpa_agent.definitions import Known
from kuberpa_agent.platform import Machine, selected
from kuberpa_agent.runs import Run, last_seq
from kuberpa_agent.sdk.credentials import SECRETS_DIR_VARIABLE
from kuberpa_agent.sdk.running import HELD_FILE_VARIABLE, ROBOT_STATE_FILE, ROBOT_STATE_VARIABLE
from kuberpa_agent.tombstones import Tombstones
from kuberpa_agent.worker import rundir

_MARGIN: Final = 0.2
"""Part of lost_after_seconds by which a shim without contact is early, so that nothing runs twice."""


@dataclass(frozen=True)
class Places:
    """What all jobs of an agent have in common."""

    state_dir: Path
    files_dir: Path
    secrets_dir: Path | None
    output_limit_bytes: int

    @property
    def lease(self) -> Path:
        """File that says when the panel was last in contact."""
        return self.state_dir / "lease.json"


def document(  # noqa: PLR0913  length: what a job is made of, one line each
    name: str,
    job: wire.Start,
    target: Known,
    places: Places,
    *,
    packages: str,
    programs: Path | None,
    lost_after: float,
    debuggable: bool = False,
    screen: Mapping[str, str] = MappingProxyType({}),
    interactive: bool = False,
    mask_patterns: Sequence[str] = (),
) -> dict[str, Any]:
    """job.json: all that a shim and a payload need to know.

    `debuggable`: whether the robot allows debuggers. `programs`: folder of its packages' programs. `screen`: how
    programs find its session. `interactive`: on a host, where runs are in no session, that this one is.
    """
    return {
        "run": name,
        "start": json.loads(job.model_dump_json(by_alias=True)),
        "kind": target.kind,
        "builtin": target.builtin,
        "packages": packages,
        "interactive": interactive,
        "mayDetach": target.may_detach,
        "acceptedAt": time.time(),
        "graceSeconds": job.grace_period_seconds,
        "timeoutSeconds": job.timeout_seconds,
        "orphanAfterSeconds": lost_after * (1 - _MARGIN) if job.retryable else None,
        "leaseFile": str(places.lease),
        "filesDir": str(places.files_dir),
        "debuggable": debuggable,
        "outputLimitBytes": places.output_limit_bytes,
        "resultLimitBytes": MAX_RESULT_BYTES,
        "maskPatterns": list(mask_patterns),
        "env": {**_environment(name, job, places, programs), **screen},
        # By it the run's processes prove to the agent that they are the run's, see sdk.link; void when the run ends.
        "channel": {"folder": str(places.state_dir), "secret": secrets.token_hex(32)},
    }


def _environment(name: str, job: wire.Start, places: Places, programs: Path | None) -> dict[str, str]:
    """What the run's processes find in their environment beside the agent's own."""
    environment = {
        "KUBERPA_ITEM_NAME": job.name,
        "KUBERPA_ITEM_NAMESPACE": job.namespace,
        "KUBERPA_ITEM_UID": job.uid,
        "KUBERPA_ATTEMPT": str(job.attempt),
        HELD_FILE_VARIABLE: str(places.state_dir / "runs" / name / rundir.HELD),
    }
    return environment | surroundings(places, programs)


def surroundings(places: Places, programs: Path | None) -> dict[str, str]:
    """What all processes of the robot's code find in their environment."""
    environment = {ROBOT_STATE_VARIABLE: str(places.state_dir / ROBOT_STATE_FILE)}
    if places.secrets_dir is not None:
        environment[SECRETS_DIR_VARIABLE] = str(places.secrets_dir)
    if programs is not None:
        environment["PATH"] = os.pathsep.join(filter(None, [str(programs), os.environ.get("PATH")]))
        environment["VIRTUAL_ENV"] = str(programs.parent)
    return environment


def write(directory: Path, job: dict[str, Any]) -> None:
    """Make a new run directory durable, whole or not at all. Raises OSError, FileExistsError among them."""
    directory.mkdir(mode=0o700)
    rundir.write_json(directory / rundir.JOB, job, durable=True)
    rundir.sync_directory(directory.parent)


def adopt(runs_dir: Path, runs: dict[str, Run], tombstones: Tombstones, platform: Machine) -> list[Run]:
    """Take over what earlier agents left; returns what was journalled and never claimed by a shim."""
    unclaimed = []
    for directory in sorted(runs_dir.iterdir()):
        job = rundir.read_json(directory / rundir.JOB)
        if job is None or tombstones.has(directory.name):
            # Not journalled, so never started; or forgotten, and the deletion was cut short.
            shutil.rmtree(directory, ignore_errors=True)
            continue
        run = runs[directory.name] = Run(directory, job, platform)
        if run.exit is None and run.state is None:
            unclaimed.append(run)
    return unclaimed


def write_exit(run: Run, reason: str, message: str, survivors: tuple[int, ...]) -> None:
    """Failed, for a run without a shim."""
    now = time.time()
    result = {
        "outcome": "Failed",
        "reason": reason,
        "message": message,
        "survivors": list(survivors),
        "lastSeq": last_seq(run.directory),
        "runSeconds": max(0.0, now - (run.state or {}).get("startedAt", now)),
        "endedAt": now,
        "endedMonotonic": time.monotonic(),
        "boot": selected().boot_id(),
    }
    rundir.write_json(run.directory / rundir.EXIT, result, durable=True)
