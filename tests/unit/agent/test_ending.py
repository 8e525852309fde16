"""Every misbehaving program, for real: stopped, killed, timed out, or ended by itself, nothing of it is left."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_runs import Bench, eventually, living

from kuberpa import wire
from kuberpa_agent.errors import UnknownRunError
from kuberpa_agent.platform import cgroup

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as another user")
STUBBORN = "trap '' TERM INT HUP; echo ready; while :; do sleep 600; done"


@pytest.fixture
def marker() -> str:
    """A text that is on the command line of every process that a test starts."""
    return f"marker-{uuid.uuid4().hex}"


def script(marker: str, text: str) -> list[str]:
    return ["sh", "-c", f": {marker}; {text}"]


async def test_stop_ends_a_program_by_sigterm(bench: Bench, marker: str) -> None:
    uid = await bench.start("os.command", script(marker, "trap 'echo bye; exit 0' TERM; echo ready; sleep 600 & wait"))
    await bench.printed(uid, "ready")
    await bench.executor.stop(uid, 1, 30)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason, record.end.exit_code) == ("Stopped", "StopRequested", 0)
    assert record.text() == "ready\nbye\n"
    assert living(marker) == set()


async def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(bench: Bench, marker: str) -> None:
    uid = await bench.start("os.command", script(marker, STUBBORN))
    await bench.printed(uid, "ready")
    await bench.executor.stop(uid, 1, 0.3)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Killed", "GracePeriodExceeded")
    assert record.end.survivors == ()
    assert living(marker) == set()


async def test_a_second_stop_can_shorten_the_grace_but_not_lengthen_it(bench: Bench, marker: str) -> None:
    uid = await bench.start("os.command", script(marker, STUBBORN))
    await bench.printed(uid, "ready")
    await bench.executor.stop(uid, 1, 600)
    await bench.executor.stop(uid, 1, 0.2)
    await bench.executor.stop(uid, 1, 600)
    assert (await bench.finished(uid)).end.outcome == "Killed"


async def test_kill_overtakes_a_stop_under_way(bench: Bench, marker: str) -> None:
    uid = await bench.start("os.command", script(marker, STUBBORN))
    await bench.printed(uid, "ready")
    await bench.executor.stop(uid, 1, 600)
    await bench.executor.kill(uid, 1)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Killed", "KillRequested")
    assert living(marker) == set()


async def test_children_that_clean_up_have_the_grace_too_when_their_shell_is_gone(bench: Bench, marker: str) -> None:
    child = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: (time.sleep(0.5), print('clean', flush=True), sys.exit()))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    uid = await bench.start("os.command", [sys.executable, "-c", _shell_like(child), marker])
    await bench.printed(uid, "ready")
    await bench.executor.stop(uid, 1, 30)
    record = await bench.finished(uid)
    assert record.end.outcome == "Stopped"
    assert "clean" in record.text()


def _shell_like(child: str) -> str:
    """A parent that dies of SIGTERM at once while its child, in the same group, handles it."""
    return f"import os, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}]).wait()"


TREES = {
    "forks": "sleep 600 & sleep 600 & echo ready; wait",
    "double-forks": "(sleep 600 & sleep 600 &) ; echo ready; sleep 600",
    "calls setsid": "setsid sleep 600 & setsid setsid sh -c 'sleep 600 & sleep 600' & echo ready; sleep 600",
    "daemonises and ignores": (
        "setsid sh -c 'trap \"\" TERM HUP; sleep 600 & exec sleep 600' </dev/null >/dev/null 2>&1 & "
        "echo ready; sleep 600"
    ),
    "is suspended": "sleep 600 & kill -STOP $!; echo ready; sleep 600",
    "clears its environment": "env -i setsid sleep 600 & echo ready; sleep 600",
}


@pytest.mark.parametrize("text", TREES.values(), ids=TREES.keys())
async def test_kill_leaves_nothing_of_a_program_that(bench: Bench, text: str) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    uid = await bench.start("os.command", ["sh", "-c", text.replace("sleep 600", f"sleep {nap}")])
    await bench.printed(uid, "ready")
    await eventually(lambda: len(living(nap)) >= 2)
    await bench.executor.kill(uid, 1)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.survivors) == ("Killed", ())
    assert living(nap) == set()


@pytest.mark.parametrize("text", TREES.values(), ids=TREES.keys())
async def test_nothing_is_left_when_the_program_ends_by_itself_and(bench: Bench, text: str) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    text = text.removesuffix("; wait").removesuffix("; sleep 600")
    record = await bench.run("os.command", ["sh", "-c", text.replace("sleep 600", f"sleep {nap}") + "; sleep 0.1"])
    assert (record.end.outcome, record.end.survivors) == ("Succeeded", ())
    assert living(nap) == set()


async def test_a_fork_bomb_is_stopped(bench: Bench, marker: str) -> None:
    # A tree of 255 processes, each in a group of its own, where every death is made good by the parent at once.
    bomb = (
        "import os\n"
        "def grow(depth):\n"
        "  os.setpgid(0, 0)\n"
        "  children = 0\n"
        "  while depth < 7:\n"
        "    while children < 2:\n"
        "      if os.fork() == 0: grow(depth + 1)\n"
        "      children += 1\n"
        "    os.wait()\n"
        "    children -= 1\n"
        "  while True: os.wait() if depth < 7 else __import__('signal').pause()\n"
        "grow(0)\n"
    )
    uid = await bench.start("os.command", [sys.executable, "-c", bomb, marker])
    await eventually(lambda: len(living(marker)) >= 200)
    await bench.executor.kill(uid, 1)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.survivors) == ("Killed", ())
    assert living(marker) == set()


async def test_a_timeout_stops_an_attempt(bench: Bench, marker: str) -> None:
    uid = await bench.start("os.command", script(marker, "sleep 600"), options={"timeoutSeconds": 1})
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Stopped", "TimeoutExceeded")
    assert record.end.run_seconds >= 1
    assert living(marker) == set()


async def test_a_timeout_kills_what_ignores_the_stop(bench: Bench, marker: str) -> None:
    options = {"timeoutSeconds": 1, "gracePeriodSeconds": 0}
    uid = await bench.start("os.command", script(marker, STUBBORN), options=options)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason) == ("Killed", "TimeoutExceeded")
    assert living(marker) == set()


async def test_a_killed_shim_takes_its_whole_tree_along(bench: Bench, marker: str) -> None:
    text = f"setsid sh -c ': {marker}; sleep 600 & sleep 600' & echo before; echo ready; sleep 600"
    uid = await bench.start("os.command", script(marker, text))
    await bench.printed(uid, "ready")
    await eventually(lambda: len(living(marker)) >= 2)
    os.kill(_shim(bench, uid), signal.SIGKILL)
    record = await bench.finished(uid)
    assert (record.end.outcome, record.end.reason, record.end.survivors) == ("Failed", "ShimLost", ())
    assert record.text() == "before\nready\n"
    assert record.end.last_seq == 2
    assert living(marker) == set()


def has_cgroups() -> bool:
    """Whether this process may make cgroups, as its shims then do."""
    path = cgroup.create(f"kuberpa-probe-{os.getpid()}")
    cgroup.remove(path)
    return bool(path)


needs_cgroups = pytest.mark.skipif(not has_cgroups(), reason="no cgroup v2 is writable here: only the path without")


@needs_cgroups
@pytest.mark.parametrize("text", TREES.values(), ids=TREES.keys())
async def test_the_kernel_kills_by_cgroup_and_the_cgroup_is_removed_after_a_program_that(
    bench: Bench, text: str
) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    uid = await bench.start("os.command", ["sh", "-c", text.replace("sleep 600", f"sleep {nap}")])
    await bench.printed(uid, "ready")
    group = json.loads((bench.directory(uid) / "state.json").read_text())["cgroup"]
    assert cgroup.members(group) >= living(nap)
    await bench.executor.kill(uid, 1)
    assert (await bench.finished(uid)).end.survivors == ()
    assert not os.access(group, os.F_OK)


@needs_cgroups
async def test_a_cgroup_finds_even_what_left_no_trace_when_the_shim_is_killed(bench: Bench) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    uid = await bench.start("os.command", ["sh", "-c", f"env -i setsid sleep {nap} & echo ready; exec sleep {nap}"])
    await bench.printed(uid, "ready")
    await eventually(lambda: len(living(nap)) >= 2)
    group = json.loads((bench.directory(uid) / "state.json").read_text())["cgroup"]
    os.kill(_shim(bench, uid), signal.SIGKILL)
    record = await bench.finished(uid)
    assert (record.end.reason, record.end.survivors) == ("ShimLost", ())
    assert living(nap) == set()
    assert group
    assert not os.access(group, os.F_OK)


@pytest.mark.parametrize("user", [None, pytest.param(NOBODY, marks=needs_root)], ids=["the same user", "another user"])
async def test_what_somebody_else_starts_for_a_run_is_found_by_its_mark(
    bench: Bench, tmp_path: Path, user: int | None
) -> None:
    # As `at` does: a daemon that is not below the run starts a program with the environment of who asked.
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    box = tmp_path / "box"
    daemon = (
        "import json, pathlib, subprocess, sys, time\n"
        "box = pathlib.Path(sys.argv[1])\n"
        "while not box.exists(): time.sleep(0.01)\n"
        f"how = dict(start_new_session=True, user={user!r})\n"
        "subprocess.Popen(['sleep', sys.argv[2]], env=json.loads(box.read_text()), **how)\n"
        "time.sleep(600)\n"
    )
    scheduler = await asyncio.create_subprocess_exec(sys.executable, "-c", daemon, str(box), nap)
    try:
        ask = f"import json, os; open({str(box)!r} + '.new', 'w').write(json.dumps(dict(os.environ)))"
        run = f"{sys.executable} -c {shlex.quote(ask)}; mv {box}.new {box}; echo ready; sleep 600"
        uid = await bench.start("os.command", ["sh", "-c", run])
        await bench.printed(uid, "ready")
        await eventually(lambda: len(living(f"sleep\0{nap}")) == 1)
        await bench.executor.kill(uid, 1)
        record = await bench.finished(uid)
        assert (record.end.outcome, record.end.survivors) == ("Killed", ())
        assert living(f"sleep\0{nap}") == set()
        assert scheduler.returncode is None
    finally:
        scheduler.kill()
        await scheduler.wait()


@needs_root
@needs_cgroups
async def test_a_cgroup_ends_what_belongs_to_another_user_too(bench: Bench) -> None:
    nap = f"6{uuid.uuid4().int % 10**8:08d}"
    sleep: Any = ("/bin/sleep", ["sleep", nap], {})  # its environment says nothing
    become = f"import os; os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); os.execve(*{sleep!r})"
    run = f"(setsid {sys.executable} -c {shlex.quote(become)} >/dev/null 2>&1 &); echo ready; exec sleep {nap}"
    uid = await bench.start("os.command", ["sh", "-c", run])
    await bench.printed(uid, "ready")
    await eventually(lambda: len(living(f"sleep\0{nap}")) == 2)
    group = json.loads((bench.directory(uid) / "state.json").read_text())["cgroup"]
    assert cgroup.members(group) >= living(f"sleep\0{nap}")
    await bench.executor.kill(uid, 1)
    assert (await bench.finished(uid)).end.survivors == ()
    assert living(nap) == set()


async def test_a_torn_last_line_after_a_crash_is_no_line(bench: Bench, marker: str) -> None:
    uid = await bench.start("os.command", script(marker, "echo ready; sleep 600"))
    await bench.printed(uid, "ready")
    os.kill(_shim(bench, uid), signal.SIGSTOP)
    with (bench.directory(uid) / "output.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "t": 1.0, "s": "stdout", "l": "INF')
    os.kill(_shim(bench, uid), signal.SIGKILL)
    record = await bench.finished(uid)
    assert (record.end.last_seq, len(record.lines)) == (1, 1)


async def test_a_retryable_attempt_without_contact_kills_itself(bench: Bench, marker: str) -> None:
    await bench.executor.configure(wire.Settings(lost_after_seconds=1.5, concurrency=2))
    kept = await bench.start("os.command", script(marker, "sleep 600"))
    lost = await bench.start("os.command", script(marker, "sleep 600"), options={"retryable": True})
    record = await bench.finished(lost)
    assert (record.end.outcome, record.end.reason) == ("Killed", "Orphaned")
    assert bench.record(kept).finished is None
    await bench.executor.kill(kept, 1)
    await bench.finished(kept)


async def test_contact_keeps_a_retryable_attempt_alive(bench: Bench, marker: str) -> None:
    await bench.executor.configure(wire.Settings(lost_after_seconds=2))
    uid = await bench.start("os.command", script(marker, "sleep 4; echo done"), options={"retryable": True})
    end = time.monotonic() + 4

    def renewed() -> bool:
        bench.executor.renew_lease()
        return time.monotonic() >= end

    await eventually(renewed)
    assert (await bench.finished(uid)).end.outcome == "Succeeded"


async def test_an_unknown_run_cannot_be_stopped(bench: Bench) -> None:
    with pytest.raises(UnknownRunError):
        await bench.executor.stop("nothing", 1)


async def test_stopping_what_has_finished_changes_nothing(bench: Bench) -> None:
    uid = await bench.start("os.command", ["true"])
    await bench.finished(uid)
    await bench.executor.stop(uid, 1)
    await bench.executor.kill(uid, 1)
    assert bench.record(uid).end.outcome == "Succeeded"


# The interpreter may be in root's home. This capability opens files and nothing else.
READ_ANY_FILE = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_unprivileged_agent_kills_trees_too(tmp_path: Path) -> None:
    # The unprivileged path has neither cgroups nor the right to signal others.
    repository = Path(__file__).parents[3]
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o055)  # what else it allows stays: it may be /tmp
    home = tmp_path / "home"
    home.mkdir()
    shutil.chown(home, 65534, 65534)
    tests = "killed_shim or leaves_nothing or nothing_is_left or ignores_sigterm or fork_bomb or by_its_mark"
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            *READ_ANY_FILE,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={home}/tmp",
            "-k",
            tests,
            __file__,
        ],
        cwd=repository,
        env={**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def _shim(bench: Bench, uid: str) -> int:
    return int(json.loads((bench.directory(uid) / "state.json").read_text())["shim"])
