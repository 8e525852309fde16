"""What a run has started through others that belongs to another user: killed where the kernel allows it, else reported.

The agent is root without CAP_KILL: it may read of every process whose it is, and kill none of another user's.
"""

import asyncio
import json
import os
import shlex
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.agent_runs import eventually
from tests.support.driven_agent import Agent

NOBODY = 65534
WITHOUT_KILL = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
WITHOUT_CGROUPS = ("unshare", "--mount", "sh", "-c", 'umount -a -l -t cgroup2; exec "$@"', "sh")
CRON = (
    "import json, pathlib, subprocess, sys, time\n"
    "box = pathlib.Path(sys.argv[1])\n"
    "while not box.exists(): time.sleep(0.01)\n"
    "how = dict(start_new_session=True, user=int(sys.argv[3]))\n"
    "subprocess.Popen(['sleep', sys.argv[2]], env=json.loads(box.read_text()), **how)\n"
    "time.sleep(600)\n"
)
"""A scheduler that is not below the run and starts, as another user, what the run has asked it for."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as another user")


@pytest.fixture
def nap() -> str:
    return f"6{uuid.uuid4().int % 10**8:08d}"


def sleeping(nap: str) -> dict[int, int]:
    """Users of the processes that sleep for so long, by PID."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.cmdline() == ["sleep", nap]:
                found[process.pid] = process.uids().real
        except psutil.Error:
            continue
    return found


@asynccontextmanager
async def cron(folder: Path, nap: str) -> AsyncIterator[str]:
    """The scheduler; the value is a script that asks it for its task."""
    box = folder / "box"
    scheduler = await asyncio.create_subprocess_exec(sys.executable, "-c", CRON, str(box), nap, str(NOBODY))
    try:
        ask = f"import json, os; open({str(box)!r} + '.new', 'w').write(json.dumps(dict(os.environ)))"
        yield f"{sys.executable} -c {shlex.quote(ask)}; mv {box}.new {box}"
        assert scheduler.returncode is None
    finally:
        scheduler.kill()
        await scheduler.wait()
        for pid in sleeping(nap):
            psutil.Process(pid).kill()


async def group_of(state_dir: Path, uid: str) -> str:
    state: dict[str, Any] = json.loads((state_dir / "runs" / f"{uid}-1" / "state.json").read_text())
    return str(state.get("cgroup") or "")


@pytest.mark.parametrize("prefix", [(), WITHOUT_CGROUPS], ids=["as it is here", "without cgroups"])
async def test_the_child_of_another_users_scheduled_task_is_reported_and_all_else_is_gone(
    tmp_path: Path, nap: str, prefix: tuple[str, ...]
) -> None:
    uid = uuid.uuid4().hex
    async with cron(tmp_path, nap) as ask, Agent(tmp_path / "state", (*prefix, *WITHOUT_KILL)) as agent:
        agent.start(uid, "sh", "-c", f"{ask}; setsid sleep {nap} & exec sleep {nap}")
        await eventually(lambda: sorted(sleeping(nap).values()) == [0, 0, NOBODY])
        if prefix:
            assert await group_of(tmp_path / "state", uid) == ""
        other = [pid for pid, user in sleeping(nap).items() if user == NOBODY]
        agent.call("kill", uid=uid)
        finished = await agent.event("finished")
        assert (finished["outcome"], finished["reason"]) == ("Killed", "KillRequested")
        assert finished["survivors"] == other
        assert list(sleeping(nap)) == other, "it goes on, as was reported"


@pytest.mark.parametrize("prefix", [(), WITHOUT_CGROUPS], ids=["as it is here", "without cgroups"])
async def test_what_became_another_user_below_the_run_is_killed_by_its_cgroup_or_reported(
    tmp_path: Path, nap: str, prefix: tuple[str, ...]
) -> None:
    uid = uuid.uuid4().hex
    sleep: Any = ("/bin/sleep", ["sleep", nap], {})  # its environment says nothing
    become = f"import os; os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); os.execve(*{sleep!r})"
    async with Agent(tmp_path / "state", (*prefix, *WITHOUT_KILL)) as agent:
        try:
            start = f"(setsid {sys.executable} -c {shlex.quote(become)} >/dev/null 2>&1 &)"
            agent.start(uid, "sh", "-c", f"{start}; exec sleep {nap}")
            await eventually(lambda: sorted(sleeping(nap).values()) == [0, NOBODY])
            other = [pid for pid, user in sleeping(nap).items() if user == NOBODY]
            by_kernel = bool(await group_of(tmp_path / "state", uid))
            agent.call("kill", uid=uid)
            finished = await agent.event("finished")
            assert finished["outcome"] == "Killed"
            assert finished.get("survivors", []) == ([] if by_kernel else other)
            assert list(sleeping(nap)) == ([] if by_kernel else other)
        finally:
            for pid in sleeping(nap):
                psutil.Process(pid).kill()
