"""An agent's executor as a process of its own, to be killed: `agent_driver.py STATE_DIR`, JSON lines both ways.

In: {"call": name, ...}; out: one line an event, and {"type": "ready"} first.
"""

import asyncio
import json
import sys
from pathlib import Path

from kuberpa import wire
from kuberpa_agent.errors import RefusedError
from kuberpa_agent.executor import CloseMode, Executor


def say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def main() -> None:
    executor = Executor(Path(sys.argv[1]))
    await executor.open()
    say({"type": "ready"})

    async def report() -> None:
        async for event in executor.events():
            say(event.to_json())

    reporting = asyncio.create_task(report())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        call = json.loads(line)
        if call["call"] == "start":
            try:
                await executor.start(wire.Start.of(call["job"]))
            except RefusedError as error:
                say({"type": "refused", "reason": error.reason, "message": str(error)})
        elif call["call"] == "acknowledge":
            executor.acknowledge(call["uid"], 1, call["seq"])
        elif call["call"] == "kill":
            await executor.kill(call["uid"], 1)
        elif call["call"] == "configure":
            await executor.configure(wire.Settings.of(call["settings"]))
    await executor.close(CloseMode.DETACH)
    await reporting


if __name__ == "__main__":
    asyncio.run(main())
