"""How soon a stop reaches a program, and how soon a killed tree is gone: `python -m tests.benchmarks.stopping`.

A real agent process, connected to a panel in this process over a socket. From the moment at which the panel sends Stop
until the program's handler of SIGTERM runs; from Kill until the last process of a tree of eight is gone, some of which
have left their session, as its pidfds say. The peer is the kernel alone: the same tree in one process group, ended by
killpg. Memory is that of the agent's own process, at rest after the work.
"""

import argparse
import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from tests.benchmarks.measurement import percentiles, say
from tests.support.agent_panel import Link, ScriptedPanel, scripted_panel, start

from kuberpa import wire

TOLD_MS = 200
GONE_MS = 500
MEMORY_MIB = 50
TOLD = (
    "import os, signal, sys, time\n"
    "def told(*_):\n"
    "    print('told', time.monotonic(), flush=True)\n"
    "    os._exit(0)\n"
    "signal.signal(signal.SIGTERM, told)\n"
    "print('ready', flush=True)\n"
    "signal.pause()\n"
)
TREE = (
    "import os, signal, subprocess, sys\n"
    "own = [sys.executable, '-S', '-c', 'import signal; signal.pause()']\n"
    "children = [subprocess.Popen(own, start_new_session=n % 2 == 0) for n in range(7)]\n"
    "print('ready', os.getpid(), *(child.pid for child in children), flush=True)\n"
    "signal.pause()\n"
)


@asynccontextmanager
async def agent(panel: ScriptedPanel, folder: Path, **environment: str) -> AsyncIterator[int]:
    """A connected agent; its PID."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    (folder / "token").write_text("token")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBERPA_")}
    environ |= {
        "KUBERPA_PANEL_URL": panel.url,
        "KUBERPA_TOKEN_FILE": str(folder / "token"),
        "KUBERPA_STATE_DIR": str(folder / "state"),
        "KUBERPA_LOG_LEVEL": "WARNING",
        **environment,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "kuberpa_agent", env=environ)
    try:
        await panel.until(lambda: panel.links and panel.of(wire.Definitions))
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def ready(panel: ScriptedPanel, link: Link, uid: str, program: str) -> list[str]:
    """Start a program; the words that it says once it is ready."""
    await link.send(start(uid, "os.command", [sys.executable, "-S", "-c", program]))
    return str((await panel.until(lambda: panel.text(uid)))[0]).split()[1:]


async def told_seconds(panel: ScriptedPanel, link: Link, uid: str) -> float:
    """From the panel's Stop to the program's handler."""
    await ready(panel, link, uid, TOLD)
    asked = time.monotonic()
    await link.send(wire.Stop(uid=uid, token=1, grace_period_seconds=60))
    await panel.until(lambda: (uid, 1) in panel.finished)
    return float(panel.text(uid)[1].split()[1]) - asked


async def gone_seconds(panel: ScriptedPanel, link: Link, uid: str) -> float:
    """From the panel's Kill until nothing of the tree lives."""
    descriptors = [os.pidfd_open(int(pid)) for pid in await ready(panel, link, uid, TREE)]
    asked = time.monotonic()
    await link.send(wire.Kill(uid=uid, token=1))
    gone = await asyncio.to_thread(ended_at, descriptors)
    await panel.until(lambda: (uid, 1) in panel.finished)
    assert panel.finished[uid, 1].survivors == ()
    return gone - asked


def ended_at(descriptors: list[int]) -> float:
    """When the last of these processes ended."""
    for descriptor in descriptors:
        select.select([descriptor], [], [], 60)
        os.close(descriptor)
    return time.monotonic()


def peer_seconds() -> float:
    """The same tree, ended by the kernel alone."""
    program = TREE.replace("start_new_session=n % 2 == 0", "start_new_session=False")
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    descriptors = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()[1:]]
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGKILL)
    gone = ended_at(descriptors)
    process.stdout.close()
    process.wait()
    return gone - asked


async def measure(times: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with scripted_panel() as panel, agent(panel, Path(folder)) as pid:
            link = await panel.connected()
            told = [await told_seconds(panel, link, f"told-{n}") for n in range(times)]
            gone = [await gone_seconds(panel, link, f"gone-{n}") for n in range(times)]
            memory = psutil.Process(pid).memory_info().rss / 2**20
    say("stop request → program told", **percentiles(told), target_p99_ms=TOLD_MS)
    peer = percentiles([peer_seconds() for _ in range(times)])
    say(
        "kill → last of 8 processes gone",
        **percentiles(gone),
        killpg_p99_ms=peer["p99_ms"],
        target_p99_ms=GONE_MS,
    )
    say("memory of the agent", mib=round(memory, 1), target_mib=MEMORY_MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    asyncio.run(measure(parser.parse_args().times))


if __name__ == "__main__":
    main()
