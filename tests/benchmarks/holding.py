"""What holding a session over RDP takes, and how soon a cut one is back: `python -m tests.benchmarks.holding`.

A real agent process, connected to a panel in this process over a socket, holds a session of 1920 x 1080 at FreeRDP's
own server behind NLA. The server is killed and started again; from the moment at which it listens until the agent says
that the session is active. Memory is that of the agent's own process and, beside it, of what it holds the session with.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import psutil
from tests.benchmarks.measurement import say
from tests.benchmarks.stopping import agent
from tests.support.agent_panel import ScriptedPanel, scripted_panel
from tests.support.rdp import PASSWORD, USER, shadow

from kuberpa import wire

MEMORY_MIB = 60
BACK_SECONDS = 10
"""A client waits up to four seconds when the first two tries have failed, and connecting takes one to two."""
MIB = 2**20


def account(folder: Path) -> Path:
    """A mounted Secret."""
    (folder / "account").mkdir(parents=True)
    (folder / "account" / "username").write_text(USER)
    (folder / "account" / "password").write_text(PASSWORD, encoding="utf-8")
    return folder


async def seen(panel: ScriptedPanel, state: str) -> None:
    await panel.until(lambda: [said.session.state for said in panel.of(wire.Seen)][-1:] == [state])


async def measure(times: int) -> None:
    with tempfile.TemporaryDirectory() as folder, shadow(Path(folder)) as server:
        mounted = account(Path(folder, "session"))
        rdp = {"address": "127.0.0.1", "port": server.port, "validation": "None"}
        session = {"type": "RDP", "rdp": rdp, "credentialsSecretRef": {"name": "account"}}
        settings = wire.Settings.of({"session": session})
        async with (
            scripted_panel(settings=settings) as panel,
            agent(panel, Path(folder, "agent"), KUBERPA_SESSION_DIR=str(mounted)) as pid,
        ):
            await seen(panel, "Active")
            back = []
            for _ in range(times):
                server.stop()
                await seen(panel, "Disconnected")
                await asyncio.to_thread(server.start)
                began = time.monotonic()
                await seen(panel, "Active")
                back.append(time.monotonic() - began)
            process = psutil.Process(pid)
            used = {child.name(): child.memory_info().rss / MIB for child in process.children()}
            own = process.memory_info().rss / MIB
    held = {f"{name.lower()}_mib": round(used[name], 1) for name in ("xfreerdp", "Xvfb")}
    say("memory of an agent that holds a session", mib=round(own, 1), target_mib=MEMORY_MIB, **held)
    say(
        "a cut session is back",
        median_s=round(sorted(back)[len(back) // 2], 1),
        max_s=round(max(back), 1),
        target_max_s=BACK_SECONDS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    asyncio.run(measure(parser.parse_args().times))


if __name__ == "__main__":
    main()
