import asyncio
import json
import os
from contextlib import suppress
from typing import Any

import psutil
import pytest
from tests.support.agent_panel import eventually
from tests.support.streams import Wire

from kuberpa.streams import Stream, StreamClosedError
from kuberpa_agent.visits.service import RemoteError
from kuberpa_agent.visits.terminal import AHEAD_BYTES, Terminals


class Sitting:
    """A person at a terminal."""

    def __init__(self, terminals: Terminals, user: str = "anna", **options: Any) -> None:
        self.person, agents = Wire().open(**options)
        self.texts: list[dict[str, Any]] = []
        self.output = b""
        self.task = asyncio.create_task(self._serve(terminals, agents, user, options))

    @staticmethod
    async def _serve(terminals: Terminals, stream: Stream, user: str, options: dict[str, Any]) -> None:
        with suppress(StreamClosedError):
            await terminals.serve(stream, user, options)

    async def sees(self, text: str) -> bytes:
        async with asyncio.timeout(20):
            while text.encode() not in self.output:
                await self.next()
        return self.output

    async def next(self) -> None:
        message = await self.person.receive()
        if isinstance(message, str):
            self.texts.append(json.loads(message))
        else:
            self.output += message
            await self.person.send(json.dumps({"shown": len(message)}))

    async def ends(self) -> str:
        try:
            async with asyncio.timeout(20):
                while True:
                    await self.next()
        except StreamClosedError as end:
            return str(end)


async def test_a_shell_that_exits_ends_the_terminal_and_says_its_code() -> None:
    terminals = Terminals()
    sitting = Sitting(terminals)
    await sitting.person.send(b"exit 7\n")
    assert await sitting.ends() == "the shell has ended"
    assert {"exit": 7} in sitting.texts


async def test_what_was_shown_last_is_shown_again_to_whoever_comes_back() -> None:
    terminals = Terminals()
    first = Sitting(terminals)
    await first.person.send(b"echo one-$((40+2))\n")
    await first.sees("one-42")
    first.person.close("")
    ident = first.texts[0]["terminal"]
    second = Sitting(terminals, terminal=ident)
    await second.sees("one-42")
    await second.person.send(b"exit\n")
    assert await second.ends() == "the shell has ended"


async def test_a_terminal_is_given_back_to_nobody_else() -> None:
    terminals = Terminals()
    first = Sitting(terminals)
    await first.next()
    ident = first.texts[0]["terminal"]
    other = Sitting(terminals, user="oleg", terminal=ident)
    await other.next()
    assert other.texts[0]["terminal"] != ident
    await terminals.close()


async def test_a_terminal_that_nobody_comes_back_to_is_killed_with_its_tree() -> None:
    terminals = Terminals(detached_seconds=0.1)
    sitting = Sitting(terminals)
    await sitting.person.send(f"setsid sleep 731.{os.getpid()} & echo started-$((1+1))\n".encode())
    await sitting.sees("started-2")

    def below() -> list[psutil.Process]:
        return [
            each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", f"731.{os.getpid()}"]
        ]

    await eventually(below)
    sitting.person.close("")
    await eventually(lambda: not below())


async def test_output_that_nobody_reads_stops_the_program_that_writes_it() -> None:
    terminals = Terminals()
    sitting = Sitting(terminals)
    await sitting.person.send(b"yes\n")
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            while taken < 4 * AHEAD_BYTES:
                taken += len(await sitting.person.receive())
    assert 0 < taken < 2 * AHEAD_BYTES
    await terminals.close()


async def test_a_wrong_size_is_refused_saying_what_would_be_right() -> None:
    stream: Stream = Wire().open()[1]
    with pytest.raises(RemoteError, match="from 1 to 1000"):
        await Terminals().serve(stream, "anna", {"size": [0, 24]})
