import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psutil
import pytest
from tests.support.waiting import eventually

from kuberpa_cli.embedded.guardian import Guardian
from kuberpa_cli.embedded.processes import CLUSTER_MARKER, Identity, find, marked, sweep


@pytest.fixture
def marker() -> Iterator[str]:
    value = uuid.uuid4().hex
    yield value
    sweep([marked(CLUSTER_MARKER, value)])


def start(marker: str, program: str) -> "subprocess.Popen[bytes]":
    env = {"PATH": os.environ["PATH"], CLUSTER_MARKER: marker}
    return subprocess.Popen(["/bin/sh", "-c", program], env=env, start_new_session=True)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_sweep_ends_descendants_that_emptied_their_environment_and_left_the_session(marker: str) -> None:
    process = start(marker, "env -i setsid sleep 1000 & trap '' TERM; while :; do sleep 1; done")
    belongs = [marked(CLUSTER_MARKER, marker)]

    def hidden() -> psutil.Process | None:
        return next((p for p in find(belongs) if "1000" in p.cmdline()), None)

    sleeper = eventually(hidden, "the sleeper is found as a descendant")
    assert sweep(belongs) == []
    process.wait()
    assert not alive(sleeper.pid)


def test_a_sweep_outruns_a_program_that_keeps_forking(marker: str) -> None:
    process = start(marker, "while :; do sleep 1000 & done")
    eventually(lambda: len(find([marked(CLUSTER_MARKER, marker)])) > 20, "it has forked")
    assert sweep([marked(CLUSTER_MARKER, marker)]) == []
    process.wait()


def test_a_sweep_leaves_other_processes_alone(marker: str) -> None:
    other = start("someone-else", "sleep 1000")
    assert sweep([marked(CLUSTER_MARKER, marker)]) == []
    assert alive(other.pid)
    other.kill()
    other.wait()


def test_an_identity_is_not_fooled_by_a_pid_that_is_used_again() -> None:
    own = Identity.of(os.getpid())
    assert own is not None
    assert own.alive
    assert not Identity(own.pid, own.created - 60).alive


def test_the_guardian_ends_the_cluster_when_its_supervisor_is_killed(marker: str) -> None:
    program = f"""
import os, subprocess, time
from kuberpa_cli.embedded.guardian import Guardian
env = dict(os.environ, {CLUSTER_MARKER}={marker!r})
guardian = Guardian({marker!r}, None, env)
subprocess.Popen(['sleep', '1000'], env=env, start_new_session=True)
print('ready', flush=True)
time.sleep(1000)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"ready\n"
        assert len(find([marked(CLUSTER_MARKER, marker)])) == 2
        supervisor.kill()
    eventually(lambda: not find([marked(CLUSTER_MARKER, marker)]), "nothing is left")


def test_the_guardian_says_that_nothing_was_left(marker: str) -> None:
    process = start(marker, "sleep 1000")
    guardian = Guardian(marker, None, {**os.environ, CLUSTER_MARKER: marker})
    assert guardian.finish()
    process.wait()
    assert not alive(process.pid)
