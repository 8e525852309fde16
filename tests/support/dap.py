"""An editor: a client of the Debug Adapter Protocol, over whatever carries bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

DEADLINE = 60.0


class Editor:
    """One session: attach, breakpoints, what is stopped, go on."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[bytes]]) -> None:
        """`receive` gives some bytes; none when the connection has ended."""
        self._send, self._receive = send, receive
        self._buffer = b""
        self._last = 0
        self._seen: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def at(cls, port: int) -> AsyncIterator["Editor"]:
        """At a local port."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            yield cls(send, lambda: reader.read(65536))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def attach(self, file: Path, line: int) -> None:
        """Attach with a breakpoint, as editors do."""
        await self.ask("initialize", adapterID="kuberpa-tests", linesStartAt1=True, pathFormat="path")
        attached = await self.request("attach", justMyCode=False)
        await self.until(lambda message: message.get("event") == "initialized")
        answer = await self.ask("setBreakpoints", source={"path": str(file)}, breakpoints=[{"line": line}])
        assert answer["body"]["breakpoints"][0]["verified"], answer
        await self.ask("configurationDone")
        await self._answer(attached)

    async def stopped(self) -> int:
        """The thread that stopped at a breakpoint."""
        event = await self.until(lambda message: message.get("event") == "stopped")
        assert event["body"]["reason"] == "breakpoint"
        return int(event["body"]["threadId"])

    async def value(self, thread: int, expression: str) -> str:
        """What an expression is worth in the frame that stopped."""
        trace = await self.ask("stackTrace", threadId=thread)
        frame = trace["body"]["stackFrames"][0]["id"]
        return str((await self.ask("evaluate", expression=expression, frameId=frame))["body"]["result"])

    async def go_on(self, thread: int) -> None:
        """Continue. What runs may end, and the connection with it, before an answer comes."""
        await self.request("continue", threadId=thread)

    async def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """A request and its answer, which must be good."""
        return await self._answer(await self.request(command, **arguments))

    async def request(self, command: str, **arguments: Any) -> int:
        """A request whose answer comes later."""
        self._last += 1
        body = {"seq": self._last, "type": "request", "command": command, "arguments": arguments}
        raw = json.dumps(body).encode()
        await self._send(b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        return self._last

    async def until(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first message of which something holds, those that came earlier included."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for message in self._seen:
                    if holds(message):
                        self._seen.remove(message)
                        return message
                self._seen.append(await self._message())

    async def _answer(self, number: int) -> dict[str, Any]:
        answer = await self.until(lambda each: each["type"] == "response" and each["request_seq"] == number)
        assert answer["success"], answer
        return answer

    async def _message(self) -> dict[str, Any]:
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length:")[1].split(b"\r\n")[0])
        while len(self._buffer) < length:
            await self._more()
        raw, self._buffer = self._buffer[:length], self._buffer[length:]
        return dict(json.loads(raw))

    async def _more(self) -> None:
        data = await self._receive()
        if not data:
            raise EOFError
        self._buffer += data
